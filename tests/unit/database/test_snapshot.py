"""Snapshots: folders that follow a store; and folders that are taken into one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from horen import Edit, Editor
from horen.database import Facts, Store
from horen.database.snapshot import Snapshot
from horen.errors import EditError, StoreError
from horen.store.recorded import Recorded
from horen.store.state import Saved
from support.editor_support import busy_editor
from support.editors import outputs, same
from support.postgres import Server
from support.stores import ANN, empty_book, made, publish, same_tables
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def busy_book(folder: Path, *, compact: bool = False, **settings: object) -> Saved:
    editor = busy_editor(**settings)
    if compact:
        editor.compact()
        editor.edit(Edit("The sky", "Oslo"))
    editor.save(folder)
    editor.unwrap()
    return Saved.read(folder)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("storage", [{}, {"value_storage": "int8", "key_storage": "int8"}])
def test_a_folder_that_is_taken_in_comes_back_as_it_was(
    address: str, tmp_path: Path, compact: bool, storage: dict[str, str]
):
    saved = busy_book(tmp_path / "book", compact=compact, **storage)
    with made(address, saved) as store:
        assert store.version == saved.history.count
        assert store.edits.ids() == {record.id for record in saved.history.active()}
        Snapshot(store, tmp_path / "snapshot").follow()
        back = Saved.read(tmp_path / "snapshot")
        assert back.folder.records == saved.folder.records
        assert same_tables(back.folder.tensors, saved.folder.tensors)
        for number in range(store.version + 1):
            active = set(store.versions.active(number))
            assert active == _active_at(saved, number)
        assert store.about().settings == saved.folder.config["settings"]
        if compact:
            with pytest.raises(EditError, match="is gone, because a compaction has dropped its entries"):
                store.versions.rollback(1, ANN)
            store.versions.undo(ANN)
            with pytest.raises(EditError, match="nothing to undo"):
                store.versions.undo(ANN)
        else:
            store.versions.rollback(1, ANN)
            assert set(store.edits.ids()) == _active_at(saved, 1)
        Snapshot(store, tmp_path / "snapshot").follow()
        after = Saved.read(tmp_path / "snapshot").history
        assert {record.id for record in after.active()} == store.edits.ids()


def _active_at(saved: Saved, number: int) -> set[int]:
    active: set[int] = set()
    for operation in saved.history.operations[:number]:
        if operation.undoes is not None:
            target = saved.history.operation(operation.undoes)
            active = active - {record.id for record in target.added} | set(target.removed)
        active = (active - set(operation.removed)) | {record.id for record in operation.added}
    return active


def test_all_imported_operations_can_be_undone(tmp_path: Path):
    saved = busy_book(tmp_path / "book")
    with made(tmp_path / "other.db", saved) as other:
        while True:
            try:
                other.versions.undo(ANN)
            except EditError:
                break
            Snapshot(other, tmp_path / "snapshot").follow()
        assert other.edits.ids() == frozenset()
        assert len(Saved.read(tmp_path / "snapshot").history) == 0


def test_an_editor_on_a_snapshot_answers_as_the_one_that_trained(tmp_path: Path):
    with made(tmp_path / "facts.db", busy_book(tmp_path / "book")) as store:
        snapshot = Snapshot(store, tmp_path / "snapshot")
        snapshot.follow()
        one, two = (Editor.load(path, tiny_model(), tiny_tokenizer()) for path in (tmp_path / "book", snapshot.folder))
        assert same(outputs(one), outputs(two))


def test_only_what_is_new_is_written_and_nothing_read(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.store.additions._SMALL", 0)
    monkeypatch.setattr("horen.store.additions._SHARE", 9.0)
    publish(store, {f"prompt {n}": "Oslo" for n in range(30)})
    snapshot = Snapshot(store, tmp_path / "snapshot")
    assert snapshot.follow() == 1
    before = {file.name: file.read_bytes() for file in snapshot.folder.iterdir()}
    with monkeypatch.context() as blind:
        blind.setattr("horen.database.snapshot.Saved.read", None)
        assert snapshot.follow() == 1
        assert {file.name: file.read_bytes() for file in snapshot.folder.iterdir()} == before
        publish(store, {"another": "Rome"})
        assert snapshot.follow() == 2
        store.edits.remove([3], ANN)
        store.edits.describe([4], ANN, subject="tagged")
        assert Snapshot(store, tmp_path / "snapshot").follow() == 4
    after = {file.name: file.read_bytes() for file in snapshot.folder.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {
        *("config.json", "README.md"),
        *("edits.added-1.jsonl", "codebook.added-1.safetensors", "edits.added-2.jsonl"),
    }
    assert len(Saved.read(tmp_path / "snapshot").history) == 30


def test_what_a_killed_follower_left_is_gone_on_with(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.store.additions._SMALL", 0)
    monkeypatch.setattr("horen.store.additions._SHARE", 9.0)
    publish(store, {f"prompt {n}": "Oslo" for n in range(8)})
    snapshot = Snapshot(store, tmp_path / "snapshot")
    snapshot.follow()
    publish(store, {"another": "Rome"})
    with monkeypatch.context() as killed:  # behind the moment that counts
        killed.setattr("horen.store.folder._settle", lambda *_: None)
        snapshot.follow()
    assert (snapshot.folder / "config.json.next").exists()
    publish(store, {"one more": "Rome"})
    with monkeypatch.context() as blind:
        blind.setattr("horen.database.snapshot.Saved.read", None)
        assert snapshot.follow() == 3
    assert not list(snapshot.folder.glob("*.next"))
    assert len(Saved.read(snapshot.folder).history) == 10


@pytest.mark.parametrize("small", [0, 1 << 30])
def test_a_folder_that_is_added_to_is_what_one_that_is_made_anew_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
):
    """Whatever the changes are; and what it says of itself is true, which no reader of it has counted."""
    monkeypatch.setattr("horen.store.additions._SMALL", small)
    monkeypatch.setattr("horen.store.additions._SHARE", 9.0)
    monkeypatch.setattr("horen.store.recorded._MUCH", 0)
    publish(store, {f"prompt {n}": "Oslo" for n in range(8)})
    snapshot = Snapshot(store, tmp_path / "snapshot")
    snapshot.follow()
    store.sets.make("some", ANN)
    changes: list[Callable[[], object]] = [
        lambda: store.edits.remove([1, 5], ANN),
        lambda: publish(store, {"another": "Rome"}),
        lambda: store.versions.undo(ANN),
        lambda: store.edits.describe([2, 3], ANN, set="some"),
        lambda: store.sets.switch("some", False, ANN),
        lambda: store.versions.rollback(1, ANN),
        lambda: store.versions.undo(ANN),
        lambda: store.sets.switch("some", True, ANN),
        lambda: publish(store, {"one more": "Rome"}, facts=Facts(set="some")),
    ]
    for number, change in enumerate(changes):
        change()
        if number % 3 == 1:
            continue  # two versions at once
        snapshot.follow()
        fresh = Snapshot(store, tmp_path / f"fresh {number}")
        fresh.follow()
        one, other = (Saved.read(each.folder) for each in (snapshot, fresh))
        assert one.folder.records == other.folder.records
        assert same_tables(one.folder.tensors, other.folder.tensors)
        assert one.folder.config["edits"] == other.folder.config["edits"] == len(one.history)
        assert [each.id for each in one.history.active()] == sorted(store.edits.ids())
    assert (snapshot.folder / "edits.scan").exists()


def test_several_may_follow_into_one_folder(store: Store, tmp_path: Path):
    one, two = (Snapshot(store, tmp_path / "snapshot") for _ in range(2))
    for number in range(1, 7):
        publish(store, {f"prompt {number}": "Oslo"})
        assert (one if number % 2 else two).follow() == number
    assert len(Recorded.read(tmp_path / "snapshot").history) == 6


def test_what_a_folder_holds_is_never_overwritten(store: Store, tmp_path: Path, book: Saved):
    publish(store, {"a": "b"})
    with made(tmp_path / "other.db", book) as other:
        Snapshot(other, tmp_path / "other").follow()
        for folder, words in ((tmp_path / "other", "follows another store"), (book.path, "follows no store")):
            shutil.copytree(folder, tmp_path / "copy")
            with pytest.raises(StoreError, match=words):
                Snapshot(store, tmp_path / "copy").follow()
            shutil.rmtree(tmp_path / "copy")
    snapshot = Snapshot(store, tmp_path / "snapshot")
    snapshot.follow()
    saved = Saved.read(snapshot.folder)
    saved.change(lambda history: history.record("remove", removed=[1]))
    with pytest.raises(StoreError, match="was changed by something else than the store"):
        snapshot.follow()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        Snapshot(store, tmp_path / "file").follow()


def test_a_backup_that_is_put_back_is_noticed(
    store: Store, tmp_path: Path, place: Path, caplog: pytest.LogCaptureFixture
):
    publish(store, {"a": "b"})
    store.backup(place / "backup.db")
    publish(store, {"c": "d"})
    publish(store, {"e": "f"})
    snapshot = Snapshot(store, tmp_path / "snapshot")
    assert snapshot.follow() == 3
    assert store.feed.wait(-1, 10) == 3
    (place / "backup.db").replace(place / "facts.db")
    for name in ("facts.db-wal", "facts.db-shm"):
        (place / name).unlink(missing_ok=True)
    assert store.version == 1
    assert store.feed.wait(3, 10) == 1
    assert snapshot.follow() == 1
    assert "made anew: the store has been put back" in caplog.text
    for texts in ({"g": "h"}, {"i": "j"}, {"k": "l"}):
        publish(store, texts)
    assert snapshot.follow() == 4
    assert [record.prompt for record in Saved.read(tmp_path / "snapshot").history.active()] == ["a", "g", "i", "k"]
    with pytest.raises(StoreError, match="exists already"):
        store.backup(place / "facts.db")


def test_backups_of_postgresql_are_its_own(server: Server, book: Saved):
    with made(server.database("backed"), book) as store, pytest.raises(StoreError, match="use pg_dump"):
        store.backup("anywhere")


def test_the_feed_tells_of_changes_of_other_processes(either: Store):
    publish(either, {"a": "b"})
    assert either.feed.wait(-1, 10) == 1
    began = time.monotonic()
    assert either.feed.wait(1, 0.2) == 1
    assert time.monotonic() - began >= 0.2
    address = either.database.url.render_as_string(hide_password=False)
    code = "import sys; from horen.database import By, Store; Store.open(sys.argv[1]).edits.remove([1], By('other'))"
    process = subprocess.Popen([sys.executable, "-c", code, address])
    assert either.feed.wait(1, 60) == 2
    assert process.wait(60) == 0


def test_who_waits_is_let_go_when_the_store_is_closed(store: Store):
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(store.feed.wait(0, 60)))
    waiting.start()
    time.sleep(0.2)
    store.close()
    waiting.join(10)
    assert found == [0]
    store.close()


def test_a_folder_is_kept_in_step(
    either: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    snapshot, told, over = Snapshot(either, tmp_path / "snapshot"), [], threading.Event()
    keeper = threading.Thread(target=snapshot.keep, args=(told.append, over.is_set, 0.1))
    keeper.start()
    try:
        _until(lambda: told == [0])
        publish(either, {"a": "b"})
        _until(lambda: told == [0, 1])
        # What cannot be written now is written later.
        with monkeypatch.context() as broken:
            broken.setattr("horen.database.snapshot.write_folder", _full)
            publish(either, {"c": "d"})
            _until(lambda: "stays at what it holds: the disk is full" in caplog.text)
            time.sleep(0.5)
            assert caplog.text.count("stays at what it holds") == 1  # and not as often as it is tried
        _until(lambda: told == [0, 1, 2])
        assert caplog.text.count("follows its store again, at version 2") == 1
    finally:
        over.set()
        keeper.join(30)
    assert len(Saved.read(tmp_path / "snapshot").history) == 2


def _full(*_: object, **__: object) -> None:
    raise StoreError("the disk is full")


def _until(holds: Callable[[], bool], patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_book_without_keys_is_not_taken_in(tmp_path: Path):
    saved = empty_book(tmp_path / "book")
    del saved.folder.tensors["keys"]
    with pytest.raises(StoreError, match="has lost its keys"):
        made(tmp_path / "facts.db", saved)
    assert not (tmp_path / "facts.db").exists()


def test_facts_stay_out_of_a_snapshot(store: Store, tmp_path: Path):
    """An engine's folder says what answers, not who said so."""
    publish(store, {"a": "b"}, facts=Facts("secret subject", "secret source", ("secret tag",)))
    Snapshot(store, tmp_path / "snapshot").follow()
    for file in (tmp_path / "snapshot").iterdir():
        assert b"secret" not in file.read_bytes()
