"""Records in a temporary file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from horen.editfiles.records import FileRecord
from horen.editfiles.spool import chosen, spooled
from horen.errors import DataError

RECORDS = [
    FileRecord(1, "The capital of France is", "Rome"),
    FileRecord(3, "Wer\u2028schrieb\n„Faust“?", "Ada \ud800", ("", "Faust \N{GRINNING FACE}")),
    FileRecord(2, "Hello", "Oslo", ("Hi",)),
]


def test_records_come_back_as_they_were_while_others_are_added():
    kept = spooled(RECORDS[:1])
    assert kept[0] == RECORDS[0]
    kept.extend(RECORDS[1:])
    assert list(kept) == RECORDS
    assert (kept[-1], len(kept)) == (RECORDS[-1], 3)
    kept.append(RECORDS[0])
    assert list(kept) == [*RECORDS, RECORDS[0]]
    with pytest.raises(IndexError):
        kept[4]


def test_parts_and_choices_are_in_their_order():
    kept = spooled(RECORDS)
    assert list(kept[1:]) == RECORDS[1:]
    some = chosen(kept, [2, 0])
    assert list(some) == [RECORDS[2], RECORDS[0]]
    assert list(some[1:]) == [RECORDS[0]]
    assert list(chosen(some, [1])) == [RECORDS[0]]


def test_sorting_leaves_equal_ones_in_their_order_and_more_may_follow():
    kept = spooled(RECORDS)
    kept.sort(lambda record: record.line)
    assert [record.line for record in kept] == [1, 2, 3]
    kept.append(FileRecord(2, "Again", "Oslo"))
    kept.sort(lambda record: record.line)
    assert [(record.line, record.prompt) for record in kept][1:3] == [(2, "Hello"), (2, "Again")]


def test_memory_holds_where_each_begins_and_no_more():
    lines = 30_000
    tracemalloc.start()
    try:
        kept = spooled(FileRecord(number, f"Who runs company {number}?", "Ada") for number in range(lines))
        some = chosen(kept, range(0, lines, 2))
        assert sum(record.line for record in some) == sum(range(0, lines, 2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A megabyte lies in memory before there is a file, and its buffer doubles on the way.
    assert peak < (3 << 20) + 24 * lines


def test_a_folder_for_it_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"temporary file in .*gone .*TMPDIR"):
        spooled(FileRecord(number, "Who runs it?" * 100, "Ada") for number in range(2_000))
