"""A save that would undo what somebody else has saved."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from horen import Edit, Editor, StoreError
from horen.store import read_folder, write_folder
from support.editors import OTHER, quick_editor
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def load(folder: Path) -> Editor:
    return Editor.load(folder, tiny_model(), tiny_tokenizer("chatml"))


def test_the_second_of_two_editors_is_refused_and_can_load_again(tmp_path: Path):
    folder = tmp_path / "facts"
    quick_editor().save(folder)
    one, two = load(folder), load(folder)
    one.edit(Edit(OTHER, "Paris"))
    two.edit(Edit("Hello", "Oslo"))
    one.save(folder)
    held = read_folder(folder).mark
    with pytest.raises(StoreError, match="has changed since") as caught:
        two.save(folder)
    assert str(folder) in str(caught.value)
    assert "merge" in str(caught.value)
    assert read_folder(folder).mark == held
    two.restore(folder)
    two.edit(Edit("Hello", "Oslo"))
    two.save(folder)
    two.save(folder)
    assert [record.prompt for record in load(folder).edits()][1:] == [OTHER, "Hello"]
    with pytest.raises(StoreError, match="has changed since"):
        one.save(folder)


def test_the_way_out_by_another_folder(tmp_path: Path):
    folder, aside = tmp_path / "facts", tmp_path / "aside"
    quick_editor().save(folder)
    one, two = load(folder), load(folder)
    one.edit(Edit(OTHER, "Paris"))
    two.edit(Edit("Hello", "Oslo"))
    one.save(folder)
    with pytest.raises(StoreError, match="has changed since"):
        two.save(folder)
    two.save(aside)
    one.merge(aside)
    one.save(folder)
    assert [record.prompt for record in load(folder).edits()][1:] == [OTHER, "Hello"]


def test_a_command_that_corrects_a_folder_which_an_editor_holds(tmp_path: Path):
    folder = tmp_path / "facts"
    quick_editor().save(folder)
    holder = load(folder)
    holder.edit(Edit(OTHER, "Paris"))
    command = [sys.executable, "-m", "horen.cli", "remove", str(folder), "1"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with pytest.raises(StoreError, match="has changed since"):
        holder.save(tmp_path / "." / "facts")
    assert not read_folder(folder).config["edits"]


def test_another_spelling_of_the_folder_and_one_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    editor = quick_editor()
    editor.save("facts")
    other = load(tmp_path / "facts")
    other.edit(Edit(OTHER, "Paris"))
    other.save(tmp_path / "facts")
    with pytest.raises(StoreError, match="has changed since"):
        editor.save(tmp_path / "facts")
    for place in (tmp_path / "facts").iterdir():
        place.unlink()
    editor.save("facts")  # there is nothing left to lose


def test_what_was_never_loaded_is_replaced(tmp_path: Path):
    quick_editor().save(tmp_path / "facts")
    quick_editor(edits=[]).save(tmp_path / "facts")
    assert not load(tmp_path / "facts").edits()


def test_a_new_key_space_knows_its_folder_too(tmp_path: Path):
    quick_editor().save(tmp_path / "facts")
    one, two = load(tmp_path / "facts"), load(tmp_path / "facts")
    two.edit(Edit(OTHER, "Paris"))
    two.save(tmp_path / "facts")
    one.rekey(one.config.replace(read_sites="layer_output@0+auto@0"))
    with pytest.raises(StoreError, match="has changed since"):
        one.save(tmp_path / "facts")


def test_a_write_that_the_disk_did_not_confirm_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import horen.store.folder as store  # noqa: PLC0415

    editor, synced = quick_editor(), store.sync_directory
    editor.save(tmp_path)
    editor.edit(Edit(OTHER, "Paris"))

    def sync(path: Path) -> None:
        if (path / "config.json.next").exists():
            raise OSError(5, "Input/output error")
        synced(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "sync_directory", sync)
        with pytest.raises(StoreError, match="did not confirm"):
            editor.save(tmp_path)
    editor.save(tmp_path)
    assert len(load(tmp_path).edits()) == 2


def test_two_threads_with_one_mark_write_once(tmp_path: Path):
    """Looking and writing are one step under the folder's lock."""
    write_folder(tmp_path, config={"n": 0}, records=[], tensors={})
    held, gate = read_folder(tmp_path).mark, threading.Barrier(8)
    written: list[int] = []

    def write(number: int) -> None:
        gate.wait(60)
        try:
            write_folder(tmp_path, config={"n": number}, records=[], tensors={}, known={held: None})
        except StoreError:
            return
        written.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(written) == 1
    assert read_folder(tmp_path).config["n"] == written[0]
