"""An editor and the commands save what they changed; the folder is what it would be if it were written anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from horen import Edit, Editor
from horen.store import additions, read_folder
from horen.store.state import Saved, remove_from_folder, undo_in_folder
from support.editors import OTHER, PROMPTS, outputs, quick_editor, same
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

FIRST = ("edits.jsonl", "codebook.safetensors")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 4.0)
    return


def loaded(folder: Path) -> Editor:
    return Editor.load(folder, tiny_model(), tiny_tokenizer())


def identity(folder: Path) -> list[int]:
    return [(folder / name).stat().st_ino for name in FIRST]


def check(editor: Editor, folder: Path) -> None:
    """The folder says what the editor says, and so does one that is written anew."""
    editor.save(folder.parent / "anew")
    found, anew = read_folder(folder), read_folder(folder.parent / "anew")
    assert found.records == anew.records
    assert found.tensors.keys() == anew.tensors.keys()
    assert all(found.tensors[name].equal(anew.tensors[name]) for name in anew.tensors)
    assert not [entry for entry in (folder.parent / "anew").iterdir() if "added" in entry.name]
    again = loaded(folder)
    assert again.history() == editor.history()
    assert same(outputs(again), outputs(editor))
    assert again.explain(list(PROMPTS)) == editor.explain(list(PROMPTS))
    for entry in (folder.parent / "anew").iterdir():
        entry.unlink()


CHANGES: list[tuple[str, Callable[[Editor], object]]] = [
    ("edit", lambda editor: editor.edit(Edit(OTHER, "Paris"))),
    ("edit in many wordings", lambda editor: editor.edit(Edit(OTHER, "Paris", ("Where is it?", "Say it again:")))),
    ("supersede", lambda editor: editor.supersede(1, "Paris")),
    ("remove", lambda editor: editor.remove(1)),
    ("undo", lambda editor: editor.undo()),
    ("nothing", lambda editor: editor.edits()),
]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
@pytest.mark.parametrize("after", ["saving", "loading"])
def test_a_change_leaves_the_first_files_as_they_are(tmp_path: Path, after: str, change: Callable[[Editor], object]):
    editor, folder = quick_editor(), tmp_path / "facts"
    editor.edit(Edit("Who wrote Hamlet?", "Oslo"))
    editor.save(folder)
    if after == "loading":
        editor = loaded(folder)
    before = identity(folder)
    for step in (change, Editor.undo):
        step(editor)
        editor.save(folder)
        check(editor, folder)
    assert identity(folder) == before


def test_commands_without_a_model_add_lines_alone(tmp_path: Path):
    editor, folder = quick_editor(), tmp_path / "facts"
    editor.edit(Edit(OTHER, "Paris"))
    editor.save(folder)
    before = identity(folder)
    remove_from_folder(folder, [2])
    undo_in_folder(folder)
    remove_from_folder(folder, [1])
    assert identity(folder) == before
    assert not list(folder.glob("codebook.added*"))
    editor.restore(folder)
    check(editor, folder)
    editor.edit(Edit("Who wrote Hamlet?", "Paris"))
    editor.save(folder)
    assert identity(folder) == before
    check(editor, folder)


@pytest.mark.parametrize("way", ["compact", "rekey", "rekey search alone"])
def test_what_numbers_or_keys_anew_writes_all_files_anew(tmp_path: Path, way: str):
    editor, folder = quick_editor(), tmp_path / "facts"
    editor.edit(Edit(OTHER, "Paris"))
    editor.remove(1)
    editor.save(folder)
    before = identity(folder)
    if way == "compact":
        editor.compact()
    elif way == "rekey":
        editor.rekey(editor.config.replace(read_sites="layer_output@0+auto@0"))
    else:
        editor.rekey(editor.config.replace(threshold=0.9))
    editor.save(folder)
    assert not set(before) & set(identity(folder))
    check(editor, folder)
    editor.edit(Edit("Who wrote Hamlet?", "Paris"))
    before = identity(folder)
    editor.save(folder)
    assert identity(folder) == before
    check(editor, folder)


def test_lines_that_another_release_wrote_otherwise_are_written_anew(tmp_path: Path):
    editor, folder = quick_editor(), tmp_path / "facts"
    editor.save(folder)
    saved = Saved.read(folder)
    more = [*saved.folder.records, {}]  # a line more than this release writes
    assert list(replace(saved, folder=replace(saved.folder, records=more)).known().values()) == [None]


def test_two_editors_that_take_turns(tmp_path: Path):
    folder = tmp_path / "facts"
    quick_editor().save(folder)
    before = identity(folder)
    for number, name in enumerate(("Hamlet", "Macbeth", "Othello")):
        one = loaded(folder)
        one.edit(Edit(f"Who wrote {name}?", "Paris"))
        one.save(folder)
        assert len(loaded(folder).edits()) == number + 2
    assert identity(folder) == before


def test_what_another_folder_holds_is_not_added_to_the_first(tmp_path: Path):
    editor, folder, other = quick_editor(), tmp_path / "facts", tmp_path / "other"
    editor.save(folder)
    longer = quick_editor()
    longer.edit([Edit(OTHER, "Paris"), Edit("Who wrote Hamlet?", "Paris")])
    longer.save(other)
    editor.restore(other)
    editor.save(folder)  # it has not changed since it was saved, but holds none of this
    check(editor, folder)


def test_marks_of_one_save_are_enough(tmp_path: Path):
    editor, folder = quick_editor(), tmp_path / "facts"
    for number in range(5):
        editor.edit(Edit(f"Who wrote the play {number}?", "Paris"))
        editor.save(folder)
    assert len(editor._session.folders[folder.resolve()]) == 1
