"""Records of edits in little memory: older ones are kept as compressed lines, which are read when asked for."""

from __future__ import annotations

import dataclasses
import json
import zlib
from array import array
from collections.abc import Iterable
from typing import Any

from horen.edits import EditRecord, unread
from horen.store.content import as_json
from horen.store.scanned import ScannedRecords

# So many records are packed together: with ZsRE's texts a record takes 86 bytes, and reading one 23 µs and its JSON.
_TOGETHER = 16
# So many of the last records stay as they are: what was just written is soon looked at.
_FRESH = 256
_STORED = tuple(field.name for field in dataclasses.fields(EditRecord))


def fields_of(record: EditRecord) -> dict[str, Any]:
    """Return the fields of a record as they are stored."""
    # What dataclasses.asdict gives, without a copy of each: texts, numbers and tuples of them need none.
    return {name: getattr(record, name) for name in _STORED if name != "left" or record.left}


class Records:
    """Records by their number, from 1.

    One thread adds at a time. Others may read meanwhile any record that is known to be there.

    Args:
        scanned: the first of them, which stay in the lines that they were read from.
    """

    def __init__(self, scanned: ScannedRecords) -> None:
        self._scanned = scanned
        self._blocks: list[list[EditRecord] | bytes] = []
        self._settled = 0  # blocks that are packed, or stay as they are
        self._recent: tuple[int, list[bytes]] = (-1, [])

    def __getitem__(self, number: int) -> EditRecord:
        """Return a record, which may be made anew each time."""
        if number <= len(self._scanned):
            return self._scanned[number]
        place, offset = divmod(number - 1 - len(self._scanned), _TOGETHER)
        block = self._blocks[place]
        return (
            block[offset] if isinstance(block, list) else EditRecord.of(json.loads(self._lines(place, block)[offset]))
        )

    def line(self, number: int) -> bytes | None:
        """Return the fields of a record as they are stored, in JSON; None where they have still to be made."""
        if number <= len(self._scanned):
            return None
        place, offset = divmod(number - 1 - len(self._scanned), _TOGETHER)
        block = self._blocks[place]
        return None if isinstance(block, list) else self._lines(place, block)[offset]

    def seen(self, number: int) -> EditRecord:
        """Return a record; of one that is packed no more than the id is read before somebody asks for the rest."""
        if number <= len(self._scanned):
            return self._scanned.later(number)
        place, offset = divmod(number - 1 - len(self._scanned), _TOGETHER)
        block = self._blocks[place]
        return block[offset] if isinstance(block, list) else EditRecord.later(number, self.__getitem__, number)

    def add(self, count: int, records: Iterable[EditRecord]) -> None:
        """Put records behind the first so many; those that lay there are forgotten."""
        full, left = divmod(count - len(self._scanned), _TOGETHER)
        del self._blocks[full + bool(left) :]
        last = self._blocks[-1] if left else None
        if isinstance(last, list):
            del last[left:]
        for record in records:
            if not isinstance(last, list) or len(last) == _TOGETHER:
                last = []
                self._blocks.append(last)
            last.append(record)

    def pack(self, count: int) -> None:
        """Pack the first so many but for the latest; they are there for good from now on."""
        for place in range(self._settled, max(0, count - len(self._scanned) - _FRESH) // _TOGETHER):
            block = self._blocks[place]
            if isinstance(block, list):
                self._blocks[place] = _packed(block)
            self._settled = place + 1

    def keep(self, count: int) -> None:
        """Leave the first so many as they are for good."""
        self._settled = count // _TOGETHER

    def entries(self, number: int) -> tuple[int, ...]:
        """Return the codebook entries of an edit."""
        return self._scanned.entries(number) if number <= len(self._scanned) else self[number].entries

    def entries_of(self, runs: Iterable[tuple[int, int]]) -> array[int]:
        """Return the entries of edits, told by first and last of ids that follow each other."""
        found = array("q")
        for first, last in runs:
            known = min(last, len(self._scanned))
            if first <= known:
                found += self._scanned.entries_of(first, known)
            for number in range(max(first, known + 1), last + 1):
                found.extend(self[number].entries)
        return found

    def holders(self) -> tuple[int, array[int]]:
        """Return by entry whose it is, for the first so many records, which need not be read for that."""
        return len(self._scanned), self._scanned.holders()

    def last_value(self, count: int) -> int:
        """Return the largest number of a value among the first so many; -1 for none."""
        later = map(self.__getitem__, range(len(self._scanned) + 1, count + 1))
        own = max((record.values[-1] for record in later if record.entries), default=-1)
        return max(self._scanned.last_value, own)

    def _lines(self, place: int, block: bytes) -> list[bytes]:
        """Return the lines of a packed block, which are often asked for one after another."""
        recent, lines = self._recent
        if recent != place:
            lines = zlib.decompress(block).split(b"\n")
            self._recent = place, lines
        return lines


def _packed(block: list[EditRecord]) -> list[EditRecord] | bytes:
    """Return the records of a block in fewer bytes; unread ones, and what JSON does not have, stay as they are."""
    if any(map(unread, block)):
        return block
    try:
        return zlib.compress(b"\n".join(as_json(fields_of(record)) for record in block), 1)
    except (TypeError, ValueError, RecursionError):
        return block
