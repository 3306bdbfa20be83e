"""Compacting saved folders: as a whole or not at all, and beside others who read or write them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import Compacted, ConfigError, EditError, MismatchError, StoreError
from horen.editing.compact import compact_folder
from horen.store import content, read_folder, write_folder
from horen.store import folder as folder_module
from horen.store.state import Saved, remove_from_folder, undo_in_folder
from support.compacted import WAYS, each_way, loaded
from support.editor_support import busy_editor
from support.editors import outputs, same


@each_way
def test_a_folder_becomes_what_an_editor_saves(way: str, tmp_path: Path):
    editor = busy_editor(**WAYS[way])
    editor.save(tmp_path / "facts")
    before = outputs(editor)
    found = compact_folder(tmp_path / "facts")
    assert found == editor.compact()
    editor.save(tmp_path / "other")
    one, two = read_folder(tmp_path / "facts"), read_folder(tmp_path / "other")
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert [{**line, "at": ""} for line in one.records] == [{**line, "at": ""} for line in two.records]
    assert one.config | {"saved": ""} == two.config | {"saved": ""}
    again = loaded(tmp_path / "facts", encoder=WAYS[way].get("encoder"))
    assert same(outputs(again), before)
    assert again.history()[:-1] == editor.history()[:-1]
    assert compact_folder(tmp_path / "facts") == Compacted()
    remove_from_folder(tmp_path / "facts", [3])
    undo_in_folder(tmp_path / "facts")
    with pytest.raises(EditError, match="compacted the codebook"):
        undo_in_folder(tmp_path / "facts")


def test_only_above_a_share_that_is_asleep(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "facts")
    stored = sum(len(record.entries) for record in Saved.read(tmp_path / "facts").history.stored())
    asleep = 1 - sum(len(record.entries) for record in editor.edits()) / stored
    assert 0 < asleep < 0.9
    before = {entry.name: entry.read_bytes() for entry in (tmp_path / "facts").iterdir()}
    for share in (asleep, 0.9):
        assert compact_folder(tmp_path / "facts", share) == editor.compact(above=share) == Compacted()
    assert {entry.name: entry.read_bytes() for entry in (tmp_path / "facts").iterdir()} == before
    found = compact_folder(tmp_path / "facts", asleep - 0.01)
    assert found.entries == stored - sum(len(record.entries) for record in editor.edits())
    assert found == editor.compact(above=asleep - 0.01)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan"), True, "half"])
def test_what_is_no_share(share: Any, tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "facts")
    for act in (lambda: compact_folder(tmp_path / "facts", share), lambda: editor.compact(above=share)):
        with pytest.raises(ConfigError, match="give a share of the entries"):
            act()
    assert len(Saved.read(tmp_path / "facts").history.operations) == len(editor.history())


def test_an_editor_on_the_folder_goes_on_and_is_told(tmp_path: Path):
    busy_editor().save(tmp_path / "facts")
    editor = loaded(tmp_path / "facts")
    before = outputs(editor)
    compact_folder(tmp_path / "facts")
    assert same(outputs(editor), before)  # its tables are mapped from the file that was there
    with pytest.raises(StoreError, match="has changed since"):
        editor.save(tmp_path / "facts")
    editor.restore(tmp_path / "facts")
    assert same(outputs(editor), before)
    editor.compact()
    editor.save(tmp_path / "facts")


def test_an_older_release_asks_for_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    busy_editor(key_storage="float32").save(tmp_path / "facts")
    monkeypatch.setattr(content, "FORMAT", 2)  # what it knows
    assert Saved.read(tmp_path / "facts").history.operations
    monkeypatch.undo()
    compact_folder(tmp_path / "facts")
    monkeypatch.setattr(content, "FORMAT", 2)
    with pytest.raises(MismatchError, match="a newer version that writes format 3"):
        Saved.read(tmp_path / "facts")


def test_tables_that_do_not_fit(tmp_path: Path):
    busy_editor().save(tmp_path / "facts")
    folder = read_folder(tmp_path / "facts")
    wrong: dict[str, dict[str, Tensor]] = {
        "index": {"keys": folder.tensors["keys"][:2]},
        "values that are no edit's": {"value_of": torch.zeros_like(folder.tensors["value_of"])},
    }
    for match, tensors in wrong.items():
        write_folder(
            tmp_path / "facts", config=folder.config, records=folder.records, tensors={**folder.tensors, **tensors}
        )
        with pytest.raises(StoreError, match=f"does not fit.*{match}"):
            compact_folder(tmp_path / "facts")


def test_another_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    busy_editor().save(tmp_path / "facts")
    real = folder_module.lock_folder
    monkeypatch.setattr("horen.editing.compact.lock_folder", lambda path, **more: real(path, 0.05, **more))
    held, done = threading.Event(), threading.Event()

    def write() -> None:
        with real(tmp_path / "facts"):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    held.wait(60)
    try:
        with pytest.raises(StoreError, match="is in use"):
            compact_folder(tmp_path / "facts")
    finally:
        done.set()
        thread.join(60)
    assert compact_folder(tmp_path / "facts").edits == (1, 2, 5)


# --- interruptions and threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["writing", "committing"])
def test_an_interruption_leaves_the_folder_as_it_was(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    busy_editor().save(tmp_path / "facts")
    files = {path.name: path.read_bytes() for path in (tmp_path / "facts").iterdir()}

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((folder_module, "write_file", fail) if step == "writing" else (Path, "replace", fail)))
    with pytest.raises(KeyboardInterrupt):
        compact_folder(tmp_path / "facts")
    assert {path.name: path.read_bytes() for path in (tmp_path / "facts").iterdir()} == files
