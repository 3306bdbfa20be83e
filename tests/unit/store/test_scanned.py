"""A history that is read from a file's lines says what the same lines say when each is read whole."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.edits import EditRecord, unread
from horen.errors import StoreError
from horen.store import scanned
from horen.store.content import as_json, records_to_bytes
from horen.store.history import History
from horen.store.scan import SCAN, read_scan, write_scan
from horen.store.scanned import FileLines

NOWHERE = Path("facts")


def content_of(history: History) -> bytes:
    return b"".join(as_json(line) + b"\n" for line in history.lines())


def read(content: bytes) -> History:
    return History.from_lines(FileLines(NOWHERE, content))


def record(number: int, entries: int = 2, left: int = 0) -> EditRecord:
    text = f'What is "edit": {number},\\ "entries":[1]?\u2028'
    owned = tuple(range(3 * number, 3 * number + entries))
    return EditRecord(
        number, text, "är", (f"{number}?",), owned, 2 * number, 0.5, 3, True, False, "2026", (), (1,) * left
    )


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Operations of every kind in any order that a history takes."""
    history = History()
    for kind in draw(st.lists(st.sampled_from(["edit", "one", "supersede", "remove", "restore", "undo"]), max_size=25)):
        active = [one.id for one in history.active()]
        asleep = [number for number in range(1, history.next_id) if number not in active]
        if kind in ("edit", "one", "supersede"):
            count = 1 if kind == "one" else draw(st.integers(1, 4))
            added = [record(history.next_id + place, draw(st.integers(1, 3)), place % 2) for place in range(count)]
            history.record(kind, added, active[:1] if kind == "supersede" else ())
        elif kind == "remove" and active:
            history.record(kind, removed=draw(st.sets(st.sampled_from(active), min_size=1)))
        elif kind == "restore" and asleep:
            back = History.from_lines(list(history.lines()))
            line = {"sequence": history.count + 1, "operation": "restore", "at": "now", "restored": asleep[:2]}
            history = History.from_lines([*back.lines(), line])
        elif kind == "undo" and history.count and history.operation(history.count).name != "undo":
            history.undo()
    return history


@given(histories())
def test_it_is_the_same_history(history: History) -> None:
    found = read(content_of(history))
    assert found.operations == history.operations
    assert found.active() == history.active()
    assert sorted(found.awake()) == sorted(entry for one in history.active() for entry in one.entries)
    assert found.last_entry_and_value() == history.last_entry_and_value()
    assert found.asleep() == history.asleep()
    assert found.stored() == history.stored()
    for one in history.stored():
        assert found.entries(one.id) == one.entries
        assert [found.holder(entry) for entry in one.entries] == [one] * len(one.entries)
        assert found.owner(one.entries[0]) == history.owner(one.entries[0])
        assert found.find_all(one.prompt) == history.find_all(one.prompt)
    assert content_of(found) == content_of(history)


@given(histories())
def test_it_goes_on_like_the_same_history(history: History) -> None:
    found = read(content_of(history))
    after = []
    for one in (found, history):
        one.record("edit", [record(one.next_id), record(one.next_id + 1)])
        last = one.last_entry_and_value()
        one.record("remove", removed=[one.next_id - 1])
        target, undone = one.undo()
        compacted, entries, values = one.compacted()
        after.append((target.name, undone, one.active(), compacted.active(), entries, values, one.holder(3), last))
    assert after[0] == after[1]


def test_the_largest_numbers_are_those_of_old_edits_and_new_ones():
    history = History()
    history.record("edit", [record(1), dataclasses.replace(record(2), entries=(90,), value=50)])
    found = read(content_of(history))
    found.record("edit", [record(3)])
    assert found.last_entry_and_value() == (90, 50)
    found.record("edit", [dataclasses.replace(record(4), entries=(91,), value=51, left=(1, 1))])
    assert found.last_entry_and_value() == (91, 53)


def test_texts_are_not_read_before_they_are_asked_for() -> None:
    history = History()
    history.record("edit", [record(1), record(2)])
    found = read(content_of(history))
    assert all(map(unread, found.active()))
    assert found.active()[1].prompt == record(2).prompt


def test_many_blocks_of_lines_are_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanned, "_BLOCK", 200)
    history = History()
    for number in range(1, 40, 3):
        history.record("edit", [record(number), record(number + 1), record(number + 2)])
        history.record("remove", removed=[number])
    found = read(content_of(history))
    assert found.operations == history.operations
    content = content_of(history)
    assert list(FileLines(NOWHERE, content)) == [json.loads(line) for line in content.split(b"\n")[:-1]]


def test_a_last_line_may_lack_its_end() -> None:
    history = History()
    history.record("edit", [record(1), record(2)])
    assert read(content_of(history).removesuffix(b"\n")).active() == history.active()
    assert read(b"").operations == ()


@given(histories(), st.integers(0, 25))
def test_a_scan_that_is_kept_says_what_the_lines_say(history: History, later: int) -> None:
    """Of a first file, to which lines are added."""
    whole = content_of(history)
    sequences = [json.loads(line)["sequence"] for line in whole.splitlines() if line]
    first = b"".join(line + b"\n" for line, at in zip(whole.split(b"\n"), sequences, strict=False) if at <= later)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_scan(folder, "its digest", read(first).scan())
        kept = read_scan(folder, "its digest", len(first))
        assert kept is not None
        assert read_scan(folder, "another digest", len(first)) is None
        assert read_scan(folder, "its digest", len(first) + 1) is None
        found, plainly = History.from_lines(FileLines(NOWHERE, whole, kept)), read(whole)
        assert found.operations == plainly.operations == history.operations
        assert found.active() == history.active()
        assert found.awake() == plainly.awake()
        assert found.last_entry_and_value() == plainly.last_entry_and_value()
        assert content_of(found) == whole
        assert b"".join(records_to_bytes(folder, found.lines())) == whole
        for one in (found, plainly):
            if one.active():
                one.record("remove", removed=[one.active()[-1].id])
                one.undo()
        assert [each.name for each in found.operations] == [each.name for each in plainly.operations]
        assert found.active() == plainly.active()
        damaged = bytearray((folder / SCAN).read_bytes())
        damaged[-1] ^= 1
        (folder / SCAN).write_bytes(damaged)
        assert read_scan(folder, "its digest", len(first)) is None


def test_what_cannot_be_kept_is_scanned_again(tmp_path: Path) -> None:
    write_scan(tmp_path / "nowhere", "its digest", read(b"").scan())
    assert read_scan(tmp_path / "nowhere", "its digest", 0) is None
    (tmp_path / SCAN).write_bytes(b"no scan")
    assert read_scan(tmp_path, "its digest", 0) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 7}, "does not add the edits that come next"),
        ({"prompt": 3}, "a prompt, a target or a rephrase is no text"),
        ({"more": 1}, "unknown more"),
        ({"created": None, "value": None}, None),
    ],
)
def test_what_is_no_history_is_told_as_ever(change: dict[str, Any], words: str | None) -> None:
    history = History()
    history.record("edit", [record(1)])
    line = json.loads(content_of(history))
    line["edit"] |= change
    content = json.dumps(line).encode()
    if words is None:  # what earlier releases took is taken
        assert read(content).active()[0].created is None
        return
    with pytest.raises(StoreError, match=words):
        read(content)


def test_a_line_that_is_no_json_is_named() -> None:
    history = History()
    history.record("edit", [record(1)])
    with pytest.raises(StoreError, match="line 2 is not JSON"):
        read(content_of(history) + b"{\n")
    with pytest.raises(StoreError, match="line 2 is not JSON"):
        read(content_of(history) + b"\n" + content_of(history))
