"""Explaining and checking from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, Ok, Run

from horen.asking.diagnosis import Diagnosis, Finding, Reading
from horen.editor import Editor

CAPITAL = EDITS[0]["prompt"]
BOSS = EDITS[1]["rephrases"][0]


# --- explain -----------------------------------------------------------------------------------------------------


def test_explanations_show_the_nearest_edits(book: Path, run: Run, ok: Ok):
    found = ok("explain", book, CAPITAL, BOSS, "--nearest", 2)
    assert [item["text"] for item in found] == [CAPITAL, BOSS]
    assert [item["edit_id"] for item in found] == [1, 2]
    for item in found:
        assert len(item["nearest"]) == 2
        first = item["nearest"][0]
        assert (first["edit_id"], first["target"]) == (item["edit_id"], item["target"])
        assert len(first["similarities"]) == 2
        assert {"crowd", "score", "prompt"} <= set(first)

    first = found[0]["nearest"][0]
    lines = run("explain", book, CAPITAL, BOSS, "--nearest", 2).stdout.splitlines()
    assert lines[:2] == [CAPITAL, f"  nearest    edit 1: {CAPITAL} -> Callen"]
    assert f"less 0.4 of the crowd's {first['crowd']:.3f}" in lines[2]
    heads = next(line for line in lines if "step 1" in line).split()
    assert heads == ["edit", "before", "step", "1", "crowd", "score", "prompt", "target"]
    numbers = [f"{number:.3f}" for number in (*first["similarities"], first["crowd"], first["score"])]
    assert any(line.split()[:5] == ["1", *numbers] for line in lines)
    assert BOSS in lines


def test_explanations_fit_the_terminal(book: Path, run: Run):
    assert max(map(len, run("explain", book, CAPITAL, columns=70).stdout.splitlines()[4:])) <= 70


def test_nothing_to_explain(book: Path, run: Run, ok: Ok):
    ok("undo", book)
    assert run("explain", book, CAPITAL).stdout == f"{CAPITAL}\n  nearest    none: nothing is stored\n"
    result = run("explain", book, CAPITAL, "--plot", "why.svg")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing to draw" in result.stderr
    assert not Path("why.svg").exists()


@pytest.mark.parametrize("name", ["why.png", "why.svg", "WHY.SVG"])
def test_an_explanation_is_drawn(name: str, book: Path, run: Run):
    result = run("explain", book, "What is $5 of the capital?", "--plot", name, "--chat")
    assert (result.exit_code, result.stderr) == (0, f"Drawn in {name}.\n")
    assert "step 1" in result.stdout
    drawn = Path(name).read_bytes()
    assert drawn.startswith(b"\x89PNG") if name.endswith("png") else b"</svg>" in drawn
    assert [place.name for place in Path().iterdir() if "why" in place.name.lower()] == [name]


def test_drawings_of_an_explanation_are_alike(book: Path, run: Run, ok: Ok):
    told = ok("explain", book, CAPITAL)
    assert ok("explain", book, CAPITAL, "--plot", "one.svg") == told
    run("explain", book, CAPITAL, "--plot", "two.svg")
    assert b"<dc:date>" not in Path("one.svg").read_bytes()
    assert Path("one.svg").stat().st_size == Path("two.svg").stat().st_size


def test_drawings_that_cannot_be_made(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    for place, reason in (("why.pdf", "end it in .png or .svg"), ("nowhere/why.png", "nowhere does not exist")):
        result = run("explain", book, CAPITAL, "--plot", place)
        assert (result.exit_code, result.stdout) == (1, "")
        assert reason in result.stderr
    assert run("explain", book, CAPITAL, BOSS, "--plot", "why.png").exit_code == 2
    Path("why.svg").mkdir()
    result = run("explain", book, CAPITAL, "--plot", "why.svg")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "why.svg cannot be written" in result.stderr
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("explain", book, CAPITAL, "--plot", "why.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pip install 'horen[bench]'" in result.stderr


# --- doctor ------------------------------------------------------------------------------------------------------


def test_a_codebook_is_checked(book: Path, run: Run, ok: Ok):
    result = run("doctor", book)  # the tiny model learns its targets without ever being sure of them
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "edit 1 is unconverged"
    assert result.stdout.splitlines()[-1] == "3 edits, 8 readings: 3 unconverged."
    assert run("doctor", book, "--plain").stdout.splitlines()[-1] == "3 edits, 4 readings: 3 unconverged."
    ok("undo", book)
    assert ok("doctor", book) == {
        "healthy": True,
        "edits": 0,
        "readings": 0,
        "threshold": 0.5,
        "findings": [],
        "recall": None,
        "asleep": 1.0,
    }
    result = run("doctor", book)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "0 edits, 0 readings: nothing found.",
        "100% of the entries are asleep: horen compact drops them, and no undo wakes them then.",
    ]


def test_findings_are_told_and_change_the_exit_code(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    far = tuple(Reading(f"wording {i}", True, 0.25 if i else 0.75, False, 1) for i in range(7))
    findings = (
        Finding(1, "Who?", "Ann", "unreached", None, far, "Do this."),
        Finding(2, "Wh\x1bat?", "Bee", "shadowed", 1, (Reading("What?", False, 0.75, True, 1),), "Do that."),
    )

    def doctor(*_: Any, chat: bool, progress: Any) -> Diagnosis:
        assert chat
        progress(1, 1)
        return Diagnosis(2, 9, 0.5, findings)

    monkeypatch.setattr(Editor, "doctor", doctor)
    result = run("doctor", book)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "edit 1 is unreached",
        "  Who? -> Ann",
        "  in chat: wording 0: does not fire, score 0.750 > 0.5, within the margin",
        *(f"  in chat: wording {i}: does not fire, score 0.250 <= 0.5" for i in range(1, 5)),
        "  … and 2 readings more",
        "  Do this.",
        "",
        "edit 2 is shadowed",
        "  Wh\\x1bat? -> Bee",
        "  plain: What?: edit 1 fires, score 0.750 > 0.5",
        "  Do that.",
        "",
        "2 edits, 9 readings: 1 unreached, 1 shadowed.",
    ]
    result = run("doctor", book, "--json")
    assert result.exit_code == 1
    assert '"healthy": false' in result.stdout
