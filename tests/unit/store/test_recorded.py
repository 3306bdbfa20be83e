"""What a folder says in words, read without its tensors: the same as with them, and the same is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from horen import Edit, Editor, EditRecord, HorenError, StoreError
from horen.store import additions, content, read_folder, write_folder
from horen.store.history import History
from horen.store.recorded import Recorded
from horen.store.state import Saved
from support.editor_support import EDITS, busy_editor
from support.editors import quick_editor


def grown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """An editor whose folder has additions."""
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 100.0)
    editor = quick_editor(edits=EDITS)
    editor.save(folder)
    for change in (lambda: editor.remove(2), lambda: editor.edit(Edit("It is “blue”\\", "Rome\n")), editor.undo):
        change()
        editor.save(folder)
    assert len([entry for entry in folder.iterdir() if "added" in entry.name]) > 2
    return editor


def first_format(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    monkeypatch.setattr(content, "USUAL", 1)
    editor = busy_editor()
    editor.save(folder)
    return editor


def compacted(folder: Path, _: pytest.MonkeyPatch) -> Editor:
    editor = busy_editor()
    editor.compact()
    editor.edit(Edit("It is blue", "Rome"))
    editor.save(folder)
    return editor


def busy(folder: Path, _: pytest.MonkeyPatch) -> Editor:
    editor = busy_editor()
    editor.save(folder)
    return editor


def empty(folder: Path, _: pytest.MonkeyPatch) -> Editor:
    editor = quick_editor(edits=[])
    editor.save(folder)
    return editor


MAKERS = (busy, grown, compacted, first_format, empty)


@pytest.mark.parametrize("make", MAKERS)
def test_it_is_the_history_that_is_read_with_the_tensors(
    make: Callable[[Path, pytest.MonkeyPatch], Editor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    editor = make(tmp_path / "book", monkeypatch)
    found, saved = Recorded.read(tmp_path / "book"), Saved.read(tmp_path / "book")
    assert found.history.asleep() == len(saved.history.stored()) - len(saved.history)
    assert found.history.active() == saved.history.active() == editor.edits()
    assert found.history.operations == saved.history.operations == tuple(editor.history())
    assert found.history.stored() == saved.history.stored()
    assert json.loads(json.dumps(list(found.history.lines()))) == saved.folder.records
    assert found.config == saved.config
    assert [r.id for r in found.history.find_all(EDITS[0].prompt)] == [
        r.id for r in saved.history.find_all(EDITS[0].prompt)
    ]
    rows = range(len(saved.folder.tensors["keys"]))
    assert [found.history.holder(row) for row in rows] == [saved.history.holder(row) for row in rows]


def test_edits_are_read_when_they_are_asked_for(tmp_path: Path):
    busy(tmp_path, pytest.MonkeyPatch())
    history = Recorded.read(tmp_path).history
    read = [record.id for record in history.active() if is_read(record)]
    assert (read, len(history)) == ([], 2)
    first = history.active()[0]
    assert first.target
    assert is_read(first)
    assert not is_read(history.active()[1])


def is_read(record: EditRecord) -> bool:
    try:
        object.__getattribute__(record, "prompt")
    except AttributeError:
        return False
    return True


def respelt(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the lines of a folder otherwise, with the digests that they then have."""
    folder = read_folder(path)
    records = [change(dict(record)) for record in folder.records]
    write_folder(path, config=folder.config, records=records, tensors=folder.tensors)


def test_lines_that_are_spelt_otherwise_say_the_same(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path)
    respelt(tmp_path, lambda line: dict(sorted(line.items())))
    assert not (tmp_path / "edits.jsonl").read_bytes().startswith(b'{"sequence"')
    assert Recorded.read(tmp_path).history.operations == tuple(editor.history())


def without_target(line: dict[str, Any]) -> dict[str, Any]:
    if "edit" in line:
        line["edit"] = {name: value for name, value in line["edit"].items() if name != "target"}
    return line


def with_more(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"edit": line["edit"] | {"colour": 1}} if "edit" in line else line


@pytest.mark.parametrize("change", [without_target, with_more])
def test_an_edit_that_is_none_is_refused(change: Callable[[dict[str, Any]], Any], tmp_path: Path):
    busy_editor().save(tmp_path)
    respelt(tmp_path, change)
    for read in (Saved.read, Recorded.read):
        with pytest.raises(StoreError, match=r"edits\.jsonl.*restore the folder"):
            read(tmp_path)


@pytest.mark.parametrize("skip", [1, 2])
def test_lost_lines_are_refused(skip: int, tmp_path: Path):
    busy_editor().save(tmp_path)
    folder = read_folder(tmp_path)
    write_folder(tmp_path, config=folder.config, records=folder.records[skip:], tensors=folder.tensors)
    with pytest.raises(StoreError, match=r"edits\.jsonl.*restore the folder"):
        Recorded.read(tmp_path)


def refusal(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(HorenError) as error:
        read(path)
    return f"{type(error.value).__name__}: {error.value}"


def flip(place: Path) -> None:
    raw = bytearray(place.read_bytes())
    raw[len(raw) // 2] ^= 1
    place.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no folder": lambda path: [entry.unlink() for entry in path.iterdir()] and path.rmdir(),
    "no configuration": lambda path: (path / "config.json").unlink(),
    "no edits": lambda path: (path / "edits.jsonl").unlink(),
    "no tensors": lambda path: (path / "codebook.safetensors").unlink(),
    "changed configuration": lambda path: flip(path / "config.json"),
    "changed edits": lambda path: flip(path / "edits.jsonl"),
    "short edits": lambda path: (path / "edits.jsonl").write_bytes(b"{}\n"),
    "short tensors": lambda path: (path / "codebook.safetensors").write_bytes(b"short"),
    "another format": lambda path: (path / "config.json").write_text(
        json.dumps(json.loads((path / "config.json").read_text()) | {"format": 99})
    ),
    "another kind": lambda path: (path / "config.json").write_text(
        json.dumps(json.loads((path / "config.json").read_text()) | {"kind": "calibration"})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_refused_in_the_same_words(damage: Callable[[Path], Any], tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    damage(tmp_path / "book")
    expected = refusal(Saved.read, tmp_path / "book")
    assert refusal(Recorded.read, tmp_path / "book") == expected
    assert refusal(Recorded.read_with_sizes, tmp_path / "book") == expected


def test_changed_tensors_are_refused_by_those_who_read_them(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path)
    flip(tmp_path / "codebook.safetensors")
    assert refusal(Recorded.read_with_sizes, tmp_path) == refusal(Saved.read, tmp_path)
    assert Recorded.read(tmp_path).history.active() == editor.edits()


def test_settings_that_are_not_known_are_refused(tmp_path: Path):
    busy_editor().save(tmp_path)
    folder = read_folder(tmp_path)
    config = folder.config | {"settings": folder.config["settings"] | {"colour": 1}}
    write_folder(tmp_path, config=config, records=folder.records, tensors=folder.tensors)
    assert refusal(Recorded.read, tmp_path) == refusal(Saved.read, tmp_path)
    write_folder(tmp_path, config={"model": 5}, records=folder.records, tensors=folder.tensors)
    assert refusal(Recorded.read, tmp_path) == refusal(Saved.read, tmp_path)


def test_sizes_with_additions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grown(tmp_path / "book", monkeypatch)
    recorded, sizes = Recorded.read_with_sizes(tmp_path / "book")
    tensors = read_folder(tmp_path / "book").tensors
    assert {name: (kept.shape, kept.nbytes) for name, kept in sizes.tables.items()} == {
        name: (tuple(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()
    }
    size = sizes.of(recorded.history.get(1))
    assert size == {"keys": 2 * tensors["keys"][0].nbytes, "value": tensors["values"][0].nbytes}


def test_a_lost_table_has_no_size(tmp_path: Path):
    busy_editor().save(tmp_path)
    folder = read_folder(tmp_path)
    tensors = {"values": torch.zeros(3, 2)}
    write_folder(tmp_path, config=folder.config, records=folder.records, tensors=tensors)
    recorded, sizes = Recorded.read_with_sizes(tmp_path)
    with pytest.raises(StoreError, match="lacks 'keys'"):
        sizes.of(recorded.history.active()[0])


# --- records of which the rest is read later -------------------------------------------------------------------------

WHOLE = EditRecord(3, "Who?", "Me", ("What?",), (4, 5), 6, 0.5, 7, True, False, "2026", (1,), (8,))


def later() -> EditRecord:
    return EditRecord.later(3, lambda line: dataclasses.replace(WHOLE, prompt=line.decode()), b"Who?")


@pytest.mark.parametrize(
    "use",
    [
        lambda record: record,
        copy.copy,
        copy.deepcopy,
        dataclasses.replace,
        lambda record: EditRecord(**dataclasses.asdict(record)),
    ],
)
def test_it_is_the_record_however_it_is_used(use: Callable[[EditRecord], EditRecord]):
    assert use(later()) == WHOLE
    assert dataclasses.astuple(use(later())) == dataclasses.astuple(WHOLE)
    assert (hash(use(later())), repr(use(later()))) == (hash(WHOLE), repr(WHOLE))


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(EditRecord)])
def test_each_field_may_be_the_first_that_is_asked_for(name: str):
    assert getattr(later(), name) == getattr(WHOLE, name)


def test_a_name_that_is_no_field_is_missing():
    record = later()
    with pytest.raises(AttributeError, match="colour"):
        _ = record.colour  # type: ignore[attr-defined]
    assert not is_read(record)
    assert record.values == range(6, 8)


def test_a_record_can_be_pickled_once_it_is_read(tmp_path: Path):
    busy_editor().save(tmp_path)
    records = Recorded.read(tmp_path).history.active()
    assert pickle.loads(pickle.dumps(records)) == records  # noqa: S301 - made here


def test_threads_may_read_a_record_at_once():
    gate, found = threading.Barrier(8), []
    record = later()

    def ask() -> None:
        gate.wait()
        found.append((record.prompt, record.left))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [("Who?", (8,))] * 8


def test_what_is_looked_up_first_and_what_is_changed_first_are_the_same():
    """Wordings and holders are made when they are asked for, or kept up."""
    asked, unasked = History(), History()
    for history in (asked, unasked):
        history.record("edit", [WHOLE_1, WHOLE_2])
        if history is asked:
            assert history.find("one") is not None
            assert history.holder(0) == WHOLE_1
        history.record("supersede", [dataclasses.replace(WHOLE_1, id=3, entries=(2,), replaces=(1,))], [1])
        history.record("remove", removed=[2])
        history.undo()
    for wording in ("one", "both"):
        assert asked.find_all(wording) == unasked.find_all(wording) != []
    assert [asked.holder(entry) for entry in range(4)] == [unasked.holder(entry) for entry in range(4)]
    assert asked.owner(0) is None is unasked.owner(0)


WHOLE_1 = EditRecord(1, "one", "A", ("both",), (0,), 0, 0.0, 1, True, False, "2026")
WHOLE_2 = EditRecord(2, "two", "B", ("both",), (1,), 1, 0.0, 1, True, False, "2026")
