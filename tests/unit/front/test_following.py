"""A front follows its folder: of what was added only that is read, and what it has then is what a new one reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from horen import Edit, Editor
from horen.front import front as fronts
from horen.front.front import Front
from horen.store import additions
from horen.store.state import Saved
from support.editor_support import busy_editor
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


@pytest.fixture(autouse=True)
def _growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small folders grow by additions too, and look at them each time."""
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 100.0)
    monkeypatch.setattr(fronts, "_LOOK", 0.0)


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    editor = busy_editor()
    editor.save(tmp_path / "book")
    return editor


def front_of(folder: Path) -> Front:
    return Front.of(folder, tiny_model(), tiny_tokenizer())


def check_same(front: Front, folder: Path) -> None:
    """The front has, bit for bit, what one that reads the whole folder has."""
    mine, other = front.session, front_of(folder).session
    assert mine.history.operations == other.history.operations
    books = mine.codebook(), other.codebook()
    assert torch.equal(books[0].keys, books[1].keys)
    assert torch.equal(books[0].value_of, books[1].value_of)
    assert torch.equal(books[0].packed.numbers, books[1].packed.numbers)
    assert torch.equal(books[0].packed.scales, books[1].packed.scales)
    assert books[0]._asleep == books[1]._asleep
    rows = [list(tiny_tokenizer()(text)["input_ids"]) for text in ("Hello", "Who is it?", "Where is it?", "It is blue")]
    assert [found and found.told for found in front.route(rows)] == [f and f.told for f in front_of(folder).route(rows)]


def test_what_is_added_is_taken_up_without_reading_the_rest(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    front = front_of(tmp_path / "book")
    reads: list[Path] = []
    whole = Saved.read
    monkeypatch.setattr(fronts.Saved, "read", lambda path: reads.append(path) or whole(path))
    steps = (
        lambda: editor.edit([Edit("Who is it?", "Oslo", ["Who was it?"]), Edit("Where is it?", "Rome")]),
        lambda: editor.remove(editor.edits()[0].id),
        editor.undo,
        lambda: editor.supersede(editor.edits()[-1].id, "Paris"),
        lambda: editor.edit(Edit("What is it?", "Oslo")),
        editor.undo,
    )
    for step in steps:
        step()
        editor.save(tmp_path / "book")
        assert front.version() == editor.operation_count
        assert reads == []
        check_same(front, tmp_path / "book")
        reads.clear()
    for number in range(4):  # several at once
        editor.edit(Edit(f"What is {number}?", "Oslo"))
        editor.remove(editor.edits()[number].id)
        editor.save(tmp_path / "book")
    assert front.version() == editor.operation_count
    assert reads == []
    check_same(front, tmp_path / "book")


def test_what_is_no_addition_is_read_anew(editor: Editor, tmp_path: Path):
    front = front_of(tmp_path / "book")
    editor.edit(Edit("Who is it?", "Oslo"))
    editor.save(tmp_path / "book")
    assert front.version() == editor.operation_count
    editor.remove(editor.edits()[0].id)
    editor.compact()
    editor.save(tmp_path / "book")
    assert front.version() == editor.operation_count
    check_same(front, tmp_path / "book")
    editor.edit(Edit("Where is it?", "Rome"))
    editor.save(tmp_path / "book")
    assert front.version() == editor.operation_count
    check_same(front, tmp_path / "book")


def test_a_damaged_addition_is_not_taken_up(editor: Editor, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    front = front_of(tmp_path / "book")
    before = front.version()
    editor.edit(Edit("Who is it?", "Oslo"))
    editor.save(tmp_path / "book")
    (added,) = (tmp_path / "book").glob("edits.added-*")
    good = added.read_bytes()
    added.write_bytes(good.replace(b"Oslo", b"Rome"))
    assert front.version() == before
    assert "go on with the edits that were read last" in caplog.text
    added.write_bytes(good)
    editor.edit(Edit("Where is it?", "Rome"))
    editor.save(tmp_path / "book")
    assert front.version() == editor.operation_count
    check_same(front, tmp_path / "book")
