"""The demo on a tiny model: its figures, its tables, its exit code."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import PROMPTS, Run, one_thread

from horen.config import HorenConfig
from horen.data import DemoFact
from horen.errors import StoreError
from horen.store.state import Saved
from horen.verify import demo
from horen.verify.demo import DemoReport, normalised, run_demo

FACTS = [
    DemoFact(PROMPTS[0], "Callen", ("The capital of Ostrenia is", "Capital of Ostrenia?"), (PROMPTS[4],)),
    DemoFact(PROMPTS[1], "Imogen", ("The boss of Larkspur Cloud is",), ("Who is it?", PROMPTS[5])),
    DemoFact(PROMPTS[3], "May", ("In which month is the fair?",), ("Which month is this?",)),
]


@pytest.fixture(scope="session")
def report(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    seen: list[tuple[str, int, int]] = []
    keep = tmp_path_factory.mktemp("demo") / "kept"
    with one_thread():
        config = HorenConfig.from_preset("activations")
        found = run_demo(str(tiny), keep=keep, facts=FACTS, config=config, progress=lambda *at: seen.append(at))
    assert seen[0] == ("Loading the model", 0, 1)
    assert ("Asking the edited model", 3, 3) in seen
    return found


def test_figures(report: DemoReport):
    counts = {name: (score.count, score.total) for name, score in report.summary.items()}
    assert counts["edit_prompts_right"] == (3, 3)
    assert counts["in_chat_right"][1] == 3
    assert counts["rephrases_right"][1] == 4
    assert counts["near_misses_unchanged"][1] == counts["near_misses_fired"][1] == 4
    assert counts["undo_restores_logits"] == counts["undo_restores_answers"] == (3, 3)
    assert counts["reload_same_answers"] == (3, 3)
    assert report.passed
    assert len(report.receipts) == 3
    assert report.total_seconds >= report.edit_seconds > 0


def test_probes(report: DemoReport):
    assert [probe.text for probe in report.prompts] == [fact.prompt for fact in FACTS]
    assert [probe.edit_id for probe in report.prompts] == [1, 2, 3]
    assert all(probe.before is not None and probe.before != probe.after for probe in report.prompts)
    assert [probe.fact for probe in report.rephrases] == [0, 0, 1, 2]
    assert all(probe.before is None for probe in report.rephrases)
    assert [probe.text for probe in report.chat] == [fact.prompt for fact in FACTS]
    assert all(probe.before is not None for probe in report.chat)
    assert all(probe.good == (probe.before == probe.after) for probe in report.near_misses)


def test_codebook_is_kept_with_the_prompts_and_targets_alone(report: DemoReport):
    assert report.folder is not None
    records = Saved.read(report.folder).history.active()
    assert [(r.prompt, r.target, r.rephrases) for r in records] == [(f.prompt, f.target, ()) for f in FACTS]


def test_folder_for_the_codebook_must_be_new(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreError, match="is not empty"):
        run_demo("nothing", keep=tmp_path)


@pytest.mark.parametrize(
    ("answer", "target", "same"),
    [
        ("port  Callen.", "Port Callen", True),
        ("9:45 pm!\n", "9:45 PM", True),
        ("Port Callen is", "Port Callen", False),
        ("", "Port Callen", False),
    ],
)
def test_what_counts_as_right(answer: str, target: str, same: bool):
    assert (normalised(answer) == normalised(target)) is same


@pytest.fixture
def shown(report: DemoReport, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the command show this report, with changes."""

    def change(**changes: Any) -> None:
        monkeypatch.setattr(demo, "run_demo", lambda *_, **__: dataclasses.replace(report, **changes))

    return change


def test_tables(report: DemoReport, shown: Callable[..., None], run: Run, tiny: Path):
    near = dataclasses.replace(report.near_misses[1], before="Rome", after="Oslo", good=False)
    chat = [
        dataclasses.replace(probe, after=fact.target, good=True) for probe, fact in zip(report.chat, FACTS, strict=True)
    ]
    shown(near_misses=(report.near_misses[0], near, *report.near_misses[2:]), chat=tuple(chat))
    result = run("demo", "--model", tiny)
    assert result.exit_code == 0
    text = result.stdout
    for fact in FACTS:
        assert fact.prompt in text
        assert fact.rephrases[0] in text
        assert fact.near_misses[0] in text
        assert f"✓ {fact.target}" in text
    assert "Near misses that changed:" in text
    assert "3 of 3" in text
    assert "seconds for an edit" in text
    assert f"The codebook is in {report.folder}" in text


def test_it_tells_how_to_open_the_page(
    shown: Callable[..., None], run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown()
    told = "horen serve --demo, then open http://127.0.0.1:8000"
    assert f" {told}" in run("demo", "--model", tiny).stdout
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "horen").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "horen"), "demo"])
    monkeypatch.setenv("PATH", "")
    assert f" bin/{told}" in run("demo", "--model", tiny).stdout


def test_tables_fit_a_narrow_terminal(shown: Callable[..., None], run: Run, tiny: Path):
    shown()
    text = run("demo", "--model", tiny, columns=80).stdout
    assert max(map(len, text[: text.index("The codebook is in")].splitlines())) <= 80


def test_json(shown: Callable[..., None], ok: Callable[..., Any], tiny: Path):
    shown()
    document = ok("demo", "--model", tiny)
    assert document["passed"] is True
    assert document["summary"]["edit_prompts_right"] == {"count": 3, "total": 3}
    assert len(document["rephrases"]) == 4
    assert document["facts"][0]["target"] == "Callen"
    assert document["prompts"][0]["edit_id"] == 1


def test_demo_that_does_not_work_fails(report: DemoReport, shown: Callable[..., None], run: Run, tiny: Path):
    wrong = dataclasses.replace(report.prompts[0], after="Rome", good=False)
    shown(prompts=(wrong, *report.prompts[1:]))
    result = run("demo", "--model", tiny, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert "fewer than 90 %" in result.stderr


def test_whole_command(tiny: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    # One step of training is too little to be right, which is not what this test is about.
    quick = HorenConfig(key_space="raw", max_steps=1)
    monkeypatch.setattr(demo, "run_demo", functools.partial(run_demo, facts=FACTS[:1], config=quick))
    result = run("demo", "--model", tiny)
    assert result.exit_code in {0, 1}
    assert "1 of 1" in result.stdout
    assert result.stderr.startswith("Loading the model …\n")
    assert "Writing the edits …" in result.stderr


def test_model_that_is_not_there(run: Run):
    result = run("demo", "--model", "./nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: The model './nowhere' cannot be loaded" in result.stderr
