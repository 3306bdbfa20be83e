"""The edits of a history as their file has them: numbers in arrays, texts where they lie until somebody asks."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import msgspec

from horen.edits import EditRecord
from horen.store.content import EDITS, EachAsked, parse_records, record_of
from horen.store.reading import Opened
from horen.store.scan import Scan, read_scan

# Bytes that are taken apart at a time: what is made of them is dropped before the next come.
_BLOCK = 1 << 18
# Edits that are kept once they were read: a judge looks at the same few again and again.
_RECENT = 4096


class ScannedEdit(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An edit in its line; all fields are checked, and the numbers are kept."""

    id: int
    prompt: str
    target: str
    rephrases: list[str]
    entries: list[int]
    value: int
    loss: float
    steps: int
    converged: bool
    reused: bool
    created: str
    replaces: list[int]
    left: tuple[int, ...] = ()


class AddedLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A line of a history that says of one edit that it came, and no more."""

    sequence: int
    operation: str
    at: str
    edit: ScannedEdit


class AnyLine(msgspec.Struct, gc=False):
    """A line of a history; see :class:`horen.store.operations.Operation`."""

    sequence: int
    operation: str
    at: str
    edit: ScannedEdit | None = None
    removed: tuple[int, ...] = ()
    undoes: int | None = None
    dropped: tuple[int, ...] = ()
    restored: tuple[int, ...] = ()


_ADDED, _ANY = msgspec.json.Decoder(AddedLine), msgspec.json.Decoder(AnyLine)


def said(line: bytes) -> AnyLine:
    """Return what a line that was scanned says."""
    return _ANY.decode(line)


class FileLines(EachAsked):
    """The records of a file, each of which is read when it is asked for.

    Args:
        path: the folder that it is in.
        content: one JSON object a line.
        scan: what is known of the first lines; None for nothing.
    """

    def __init__(self, path: Path, content: bytes, scan: Scan | None = None) -> None:
        self._path, self._content, self._scan = path, content, scan
        self._ends = ends = array("Q", [0]) if scan is None else scan.ends[:]
        blocks = self.blocks(len(ends) - 1)
        lengths = (len(line) + 1 for block in blocks for line in block.removesuffix(b"\n").split(b"\n"))
        ends.extend(islice(accumulate(lengths, initial=ends[-1]), 1, None))

    @classmethod
    def of(cls, opened: Opened) -> FileLines:
        """Return the lines of a folder's files, which are compared with their digests.

        Raises:
            StoreError: when one is not what was written.
        """
        first, *more = [handle.read() for handle in opened.verified(EDITS)]
        scan = read_scan(opened.path, opened.digests()[EDITS], len(first))
        return cls(opened.path, b"".join([first, *more]), scan)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def record(self, place: int) -> dict[str, Any]:
        """Return the record of a line.

        Raises:
            StoreError: when it is no JSON object.
        """
        return record_of(self._path, self.line(place), f"line {place + 1}")

    def line(self, place: int) -> bytes:
        """Return the bytes of a line."""
        return self._content[self._ends[place] : self._ends[place + 1]]

    def __eq__(self, other: object) -> bool:
        """Return whether a sequence has the same records."""
        return self.read() == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as that of a list

    def read(self) -> list[dict[str, Any]]:
        """Return all records.

        Raises:
            StoreError: when a line is no JSON object.
        """
        return parse_records(self._path, self._content)

    def blocks(self, first: int) -> Iterator[bytes]:
        """Yield the file from a line on, from 0, in parts of whole lines."""
        begin, content = self._ends[first], self._content
        while begin < len(content):
            end = content.find(b"\n", begin + _BLOCK) + 1 or len(content)
            yield content[begin:end]
            begin = end

    def begun(self) -> Scan:
        """Return what is known of the first lines, for one caller to go on with; the next is told of none."""
        scan, self._scan = self._scan or Scan(), None
        scan.ends = self._ends
        return scan


class ScannedRecords:
    """The edits of lines by their ids, from 1; they only become more while the lines are scanned.

    Args:
        lines: that they are in.

    Attributes:
        lines: likewise.
        scan: what is known of them so far.
    """

    def __init__(self, lines: FileLines) -> None:
        self.lines, self.scan = lines, lines.begun()
        self._recent: dict[int, EditRecord] = {}

    def __len__(self) -> int:
        return len(self.scan.places)

    def __getitem__(self, number: int) -> EditRecord:
        """Return an edit; those that were asked for last are not read again."""
        found = self._recent.get(number)
        if found is None:
            edit = said(self.lines.line(self.scan.places[number - 1])).edit
            found = EditRecord.of(msgspec.structs.asdict(edit)) if edit is not None else None
            assert found is not None  # noqa: S101 - an edit has been scanned there
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[number] = found
        return found

    def later(self, number: int) -> EditRecord:
        """Return an edit of which all but the id is read when it is first asked for."""
        return EditRecord.later(number, self.__getitem__, number)

    def rest(self) -> Iterator[AddedLine | AnyLine]:
        """Yield what each line that is not known yet says; its edit is, by then, as those of some lines behind it.

        Raises:
            ValueError: when a line is not as this release writes it, an edit has another id than the next, or a number
                that none of its kind can have.
        """
        place = self.scan.begins[-1]
        for block in self.lines.blocks(place):
            try:
                lines: Sequence[AddedLine | AnyLine] = _ADDED.decode_lines(block)
            except msgspec.ValidationError:
                lines = _ANY.decode_lines(block)
            edits = [line.edit for line in lines if line.edit is not None]
            places: Iterable[int] = range(place, place + len(lines))
            if len(edits) < len(lines):
                places = (number for number, line in zip(places, lines, strict=True) if line.edit is not None)
            self._add(places, edits)
            place += len(lines)
            yield from lines
        if place != len(self.lines):
            raise ValueError("a line is empty")

    def _add(self, places: Iterable[int], edits: Sequence[ScannedEdit]) -> None:
        entries = [entry for edit in edits for entry in edit.entries]
        first = len(self.scan.places) + 1
        if [edit.id for edit in edits] != list(range(first, first + len(edits))) or min(entries, default=0) < 0:
            raise ValueError(f"edit {first} does not come next")
        scan = self.scan
        scan.places.extend(places)
        scan.entry_ends.extend(accumulate([len(edit.entries) for edit in edits], initial=scan.entry_ends.pop()))
        scan.entries.extend(entries)
        values = (edit.value + len(edit.left) for edit in edits if edit.entries)
        scan.last_value[0] = max(scan.last_value[0], max(values, default=-1))

    def entries(self, number: int) -> tuple[int, ...]:
        """Return the codebook entries of an edit."""
        scan = self.scan
        return tuple(scan.entries[scan.entry_ends[number - 1] : scan.entry_ends[number]])

    @property
    def last_value(self) -> int:
        """The largest number of a value; -1 for none."""
        return self.scan.last_value[0]

    def entries_of(self, first: int, last: int) -> array[int]:
        """Return the entries of edits whose ids follow each other, those of each together."""
        scan = self.scan
        return scan.entries[scan.entry_ends[first - 1] : scan.entry_ends[last]]

    def holders(self) -> array[int]:
        """Return by entry the id of the edit that it belongs to; 0 for none."""
        found = array("Q", bytes(8 * (1 + max(self.scan.entries, default=-1))))
        number = 1
        for place, entry in enumerate(self.scan.entries):
            while place >= self.scan.entry_ends[number]:
                number += 1
            found[entry] = number
        return found
