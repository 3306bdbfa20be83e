"""Folders of plain text that are exported of a store, changed by hand and taken in again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, OTHER, Ok, Run, file_of, interrupt_at

from horen.database import Store

OSTRENIA = EDITS[0]["prompt"]


def lines_of(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "edits.jsonl").read_text("utf-8").splitlines()]


def write_lines(folder: str, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (Path(folder) / "edits.jsonl").write_text(text, "utf-8")


def test_an_export_goes_into_another_store_as_it_was_trained(facts: Path, book: Path, ok: Ok, run: Run):
    ok("import", book, "--into", "other.db")
    ok("edit", file_of(OTHER | {"tags": ["people"]}), "--into", facts, "--by", "bob", "--reason", "he asked")
    ok("remove", facts, 3)
    assert ok("export", facts, "reviewed") == {"folder": "reviewed", "edits": 3}
    assert [line["prompt"] for line in lines_of("reviewed")] == [
        EDITS[0]["prompt"],
        EDITS[1]["prompt"],
        OTHER["prompt"],
    ]
    result = run("import", "reviewed", "--into", "other.db")
    assert result.stdout.splitlines() == [
        "     1  new",
        "     2  stored already",
        "other.db is at version 2 (import: adds 4).",
    ]
    (there, here) = (ok("show", store, 4) for store in ("other.db", facts))
    assert all(there[name] == here[name] for name in ("prompt", "target", "facts", "author", "reason", "created"))
    asked = [ok("ask", store, OTHER["prompt"], "--explain")[0] for store in ("other.db", facts)]
    assert [one["explanation"]["edit_id"] for one in asked] == [4, 4]
    assert asked[0]["answer"] == asked[1]["answer"] == OTHER["target"]
    again = ok("import", "reviewed", "--into", "other.db")
    assert again["counts"] == {
        "published": 0,
        "trained": 0,
        "unchanged": 3,
        "kept": 0,
        "asleep": 0,
        "failed": 0,
    }
    assert ok("export", facts, "people", "--tag", "people")["edits"] == 1
    assert run("export", facts, "people").stdout == "Wrote 3 edits to people.\n"


def test_a_line_that_was_written_by_hand_is_trained(facts: Path, ok: Ok):
    ok("export", facts, "reviewed")
    lines = lines_of("reviewed")
    write_lines("reviewed", [*lines, OTHER | {"tags": ["people"], "source": "a letter"}])
    document = ok("import", "reviewed", "--into", facts, "--by", "ci", "--reason", "reviewed")
    assert (document["counts"]["published"], document["counts"]["trained"]) == (1, 1)
    (version,) = document["versions"]
    assert (version["by"], version["added"]) == ({"actor": "ci", "reason": "reviewed"}, [4])
    assert ok("show", facts, 4)["facts"] == {"subject": None, "source": "a letter", "tags": ["people"], "set": None}
    assert ok("explain", facts, OTHER["prompt"])[0]["edit_id"] == 4
    assert ok("import", "reviewed", "--into", facts)["counts"]["unchanged"] == 4


def test_a_target_that_was_changed_by_hand_is_a_conflict(facts: Path, ok: Ok, run: Run):
    ok("export", facts, "reviewed")
    lines = lines_of("reviewed")
    lines[0]["target"] = "Rome"
    write_lines("reviewed", lines)
    result = run("import", "reviewed", "--into", facts)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "These cannot both be active:\n" in result.stderr
    assert "reviewed contradicts" in result.stderr
    assert "--on-conflict supersede" in result.stderr
    assert ok("import", "reviewed", "--into", facts, "--on-conflict", "keep")["counts"]["kept"] == 1
    assert ok("show", facts, 1)["state"] == "published"
    document = ok("import", "reviewed", "--into", facts, "--on-conflict", "supersede")
    assert (document["versions"][0]["removed"], document["counts"]["trained"]) == ([1], 1)
    assert ok("list", facts, "--search", "Ostrenia")[0]["target"] == "Rome"


def test_an_interruption_publishes_what_is_trained(facts: Path, ok: Ok, run: Run, monkeypatch: pytest.MonkeyPatch):
    ok("export", facts, "reviewed")
    more = [{"prompt": f"Who is number {number}?", "target": "Rome"} for number in range(18)]
    write_lines("reviewed", [*lines_of("reviewed"), *more])
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        result = run("import", "reviewed", "--into", facts, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["counts"]["trained"] == 16
    with Store.open(facts) as store:
        states = [draft.state for draft in store.drafts.list(limit=100).items]
    assert sorted(states) == ["published"] * 16 + ["rejected"] * 2
    assert ok("import", "reviewed", "--into", facts)["counts"]["trained"] == 2


def test_a_model_that_is_away_leaves_no_draft(facts: Path, ok: Ok, run: Run):
    ok("export", facts, "reviewed")
    write_lines("reviewed", [OTHER])
    result = run("import", "reviewed", "--into", facts, "--device", "nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nowhere" in result.stderr
    assert ok("drafts", facts) == []
    assert ok("import", "reviewed", "--into", facts)["counts"]["trained"] == 1


def test_what_cannot_be_taken_in(facts: Path, ok: Ok, run: Run):
    ok("export", facts, "reviewed")
    for given, words in (
        (["--into", "new.db"], "There is no store new.db yet"),
        (["--into", str(facts), "--tags", "a"], "which is taken in as it is: leave --tags out"),
        (["--into", str(facts), "--set", "threshold=0.5"], "leave --set out"),
    ):
        result = run("import", "reviewed", *given)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr
    assert not Path("new.db").exists()
    write_lines("reviewed", [{"prompt": "Who is it?"}])
    result = run("import", "reviewed", "--into", facts)
    assert "line 1 lacks 'target'" in result.stderr
    Path("mine").mkdir()
    Path("mine/edits.jsonl").write_text("mine")
    assert "choose another folder" in run("export", facts, "mine").stderr
    assert len(ok("history", facts)) == 1
