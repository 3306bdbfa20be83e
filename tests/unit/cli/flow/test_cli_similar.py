"""Lines of a file that look like stored edits in other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, Ok, Run, file_of, stored

from horen.cli.flow import likeness
from horen.editor import Editor
from horen.edits import Similar
from horen.store.state import Saved

CAPITAL = {"prompt": "Name Ostrenia's capital", "target": "Rome"}
MONTH = {"prompt": "When is the fair?", "target": "Oslo"}
NEW = {"prompt": "In which town is Dr Holloway?", "target": "May"}
TOLD = "line 1: \"Name Ostrenia's capital\" -> 'Rome' looks like edit 1: 'What is the capital of Ostrenia?' -> 'Callen'"


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gate would find that reads words: the tiny model's does not."""
    likes = {CAPITAL["prompt"]: 1, MONTH["prompt"]: 3}

    def similar(editor: Editor, edits: list[Any]) -> list[Similar | None]:
        active = {record.id: record for record in editor.edits()}
        found = [active.get(likes.get(edit.prompt, 0)) for edit in edits]
        return [None if old is None else Similar(old.id, old.prompt, old.target, 0.7) for old in found]

    monkeypatch.setattr(Editor, "similar", similar)


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_on_terminal", lambda: True)


@pytest.mark.parametrize("options", [[], ["--on-similar", "warn"], ["--on-similar", "ask"]])
def test_a_line_that_looks_like_a_stored_edit_is_written_and_told(options: list[str], book: Path, run: Run):
    result = run("edit", file_of(CAPITAL, NEW), "--into", book, *options)
    assert result.exit_code == 0
    assert TOLD in result.stderr
    assert "Drop an old one with horen remove, or replace it with --on-similar supersede" in result.stderr
    assert len(stored(book)) == 5


def test_ignoring_says_nothing(book: Path, ok: Ok, run: Run):
    result = run("edit", file_of(CAPITAL), "--into", book, "--on-similar", "ignore")
    assert "looks like" not in result.stderr
    assert ok("edit", file_of(CAPITAL), "--into", book)["receipts"][0]["resembles"] is None


def test_superseding_is_told_written_and_undone(book: Path, ok: Ok, run: Run):
    before = stored(book)
    result = run("edit", file_of(CAPITAL, NEW), "--into", book, "--on-similar", "supersede")
    assert "These take the place of stored edits in other words" in result.stderr
    assert TOLD in result.stderr
    assert "     1  in the place of stored edits\n" in result.stdout
    assert EDITS[0]["prompt"] not in stored(book)
    assert stored(book)[CAPITAL["prompt"]] == "Rome"
    assert Saved.read(book).history.get(4).replaces == (1,)
    ok("undo", book)
    assert stored(book) == before


def test_the_document_names_what_was_replaced(book: Path, ok: Ok):
    document = ok("edit", file_of(CAPITAL, NEW), "--into", book, "--on-similar", "supersede", "--batch", 1)
    assert document["counts"]["superseded"] == 1
    assert [(item["replaced"], item["resembles"]) for item in document["receipts"]] == [([1], 1), ([], None)]


def test_two_batches_that_replace_the_same_edit(book: Path, ok: Ok, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        Editor, "similar", lambda _, edits: [Similar(1, EDITS[0]["prompt"], "Callen", 0.7) for _ in edits]
    )
    document = ok("edit", file_of(CAPITAL, NEW), "--into", book, "--on-similar", "supersede", "--batch", 1)
    assert [item["replaced"] for item in document["receipts"]] == [[1], []]


@pytest.mark.parametrize(
    ("typed", "gone"),
    [("y\nn\n", {1}), ("\ny\n", {3}), ("all\n", {1, 3}), ("none\n", set()), ("what?\nY\nall\n", {1, 3})],
)
def test_asking(typed: str, gone: set[int], book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    on_terminal(monkeypatch)
    result = run("edit", file_of(CAPITAL, MONTH), "--into", book, "--on-similar", "ask", text=typed)
    assert result.exit_code == 0, result.stderr
    assert TOLD in result.stderr
    assert "Replace edit 1? (y, n, all, none)" in result.stderr
    assert {record.id for record in Saved.read(book).history.active()} == {1, 2, 3, 4, 5} - gone


def test_leaving_the_question_open_changes_nothing(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    on_terminal(monkeypatch)
    before = stored(book)
    result = run("edit", file_of(CAPITAL), "--into", book, "--on-similar", "ask", text="")
    assert result.exit_code == 130
    assert "Interrupted." in result.stderr
    assert stored(book) == before


def test_lines_of_one_file_do_not_replace_each_other_when_it_is_gone_on_with(book: Path, ok: Ok):
    # Edit 1 is a line of this file, which an earlier run has stored.
    document = ok("edit", file_of(EDITS[0], CAPITAL), "--into", book, "--on-similar", "supersede")
    assert [item["action"] for item in document["receipts"]] == ["unchanged", "added"]


def test_a_new_codebook_has_nothing_to_look_like(new: list[str], ok: Ok, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Editor, "similar", lambda *_: pytest.fail("it looked"))
    assert ok("edit", file_of(CAPITAL), "--into", "book", *new)["counts"]["added"] == 1
