"""Many small records kept in a temporary file instead of in memory, to be read again by their number."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

from horen.editfiles.records import FileRecord
from horen.errors import DataError

_Item = TypeVar("_Item")

# So many bytes are kept in memory before there is a file at all: most files of edits are small.
_IN_MEMORY = 1 << 20


class Spool(Sequence[_Item], Generic[_Item]):
    """Records of which memory holds no more than where each begins: 8 bytes a record.

    They lie as JSON in a temporary file without a name (in the folder that ``TMPDIR`` says), which is gone with the
    last reference to it, whatever ends the process. Below a megabyte there is no file.

    Args:
        fields: gives what is to be kept of a record, as JSON has it.
        made: makes a record of that.
        items: the first ones.

    Raises:
        DataError: here, when one is added and when one is read, where the temporary file cannot be written or read.
    """

    def __init__(
        self, fields: Callable[[_Item], Any], made: Callable[[Any], _Item], items: Iterable[_Item] = ()
    ) -> None:
        self._fields, self._made = fields, made
        # It is closed with the last reference; a block would end before the records are read.
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._starts = array("Q")
        self._end = 0
        self._at_end = True
        self.extend(items)

    def append(self, item: _Item) -> None:
        """Add a record."""
        # ASCII, so that a line is never cut; half a character, which UTF-8 has no bytes for, is kept as well.
        line = json.dumps(self._fields(item), separators=(",", ":")).encode() + b"\n"
        with _errors_named():
            if not self._at_end:
                self._file.seek(self._end)
            self._at_end = False
            self._file.write(line)
            self._at_end = True
        self._starts.append(self._end)
        self._end += len(line)

    def extend(self, items: Iterable[_Item]) -> None:
        """Add records."""
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> _Item: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[_Item]: ...

    def __getitem__(self, place: int | slice) -> _Item | Sequence[_Item]:
        if isinstance(place, slice):
            return Chosen(self, array("Q", range(len(self))[place]))
        start = self._starts[place]
        with _errors_named():
            self._at_end = False
            self._file.seek(start)  # which writes what is still held back
            line = self._file.readline()
        return self._made(json.loads(line))

    def sort(self, key: Callable[[_Item], int]) -> None:
        """Put the records in the order of a number; they stay where they lie."""
        numbers = array("q", map(key, self))
        if any(after < before for before, after in pairwise(numbers)):
            order = sorted(range(len(self)), key=numbers.__getitem__)
            self._starts = array("Q", map(self._starts.__getitem__, order))


class Chosen(Sequence[_Item], Generic[_Item]):
    """Some of many records by their numbers: 8 bytes each."""

    def __init__(self, items: Sequence[_Item], numbers: array[int]) -> None:
        self._items, self._numbers = items, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> _Item: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[_Item]: ...

    def __getitem__(self, place: int | slice) -> _Item | Sequence[_Item]:
        if isinstance(place, slice):
            return Chosen(self._items, self._numbers[place])
        return self._items[self._numbers[place]]


def chosen(items: Sequence[_Item], places: Iterable[int]) -> Sequence[_Item]:
    """Return the items at some places, none of which is read before it is asked for."""
    return Chosen(items, array("Q", places))


def spooled(records: Iterable[FileRecord] = ()) -> Spool[FileRecord]:
    """Keep the records of a file; ``records`` may be read from it one after another."""
    return Spool(_fields, _made, records)


@contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place, why = tempfile.gettempdir(), error.strerror or error
        raise DataError(
            f"What was read cannot be kept in a temporary file in {place} ({why}): make room there, or let TMPDIR name "
            "another folder."
        ) from error


def _fields(record: FileRecord) -> list[Any]:
    facts = [record.subject, record.source, *record.tags]
    told = facts if any(facts) else 0  # most records have none
    return [record.line, record.prompt, record.target, told, *record.rephrases]


def _made(fields: list[Any]) -> FileRecord:
    line, prompt, target, facts, *rephrases = fields
    subject, source, *tags = facts or (None, None)
    return FileRecord(line, prompt, target, tuple(rephrases), subject, source, tuple(tags))
