"""Finding edits by number, wording and entry in a few bytes each, while they become more."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import compress
from operator import index
from typing import TYPE_CHECKING, SupportsIndex

from horen.edits import EditRecord, same_text

if TYPE_CHECKING:
    from horen.store.packed import Records

# Numbers that a set copies when one of them comes or goes.
_CHUNK = 1 << 12
# What turns each number that is there into one that is not.
_FLIPPED = bytes([1, *bytes(255)])
_BITS, _MASK = 32, (1 << 32) - 1


class Numbers:
    """A set of numbers from 1, in a byte each. It never changes: the next one shares all but what is new."""

    def __init__(self, chunks: tuple[bytes | bytearray, ...] = (), count: int = 0) -> None:
        self._chunks, self._count = chunks, count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, SupportsIndex):
            return False
        place, offset = divmod(index(number), _CHUNK)
        return 0 <= place < len(self._chunks) and bool(self._chunks[place][offset])

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers, rising."""
        for place, chunk in enumerate(self._chunks):
            yield from compress(range(place * _CHUNK, (place + 1) * _CHUNK), chunk)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield first and last of each run of numbers that follow each other, rising."""
        there, first = 0, 0
        for place, chunk in enumerate(self._chunks):
            offset = chunk.find(not there)
            while offset >= 0:
                number = place * _CHUNK + offset
                if there:
                    yield first, number - 1
                there, first = not there, number
                offset = chunk.find(not there, offset)
        if there:
            yield first, len(self._chunks) * _CHUNK - 1

    def absent(self, last: int) -> Iterator[int]:
        """Yield the numbers up to a last one that are not in it, rising."""
        for place, chunk in enumerate(self._chunks):
            found = compress(range(place * _CHUNK, (place + 1) * _CHUNK), chunk.translate(_FLIPPED))
            yield from (number for number in found if 0 < number <= last)

    def to_bytes(self) -> bytes:
        """Return a byte for each number from 0: 1 for those that are there."""
        return b"".join(self._chunks)

    @classmethod
    def of_bytes(cls, flags: bytes) -> Numbers:
        """Return the set that :meth:`to_bytes` gave."""
        chunks = tuple(bytearray(flags[begin : begin + _CHUNK]) for begin in range(0, len(flags), _CHUNK))
        return cls(chunks, flags.count(1))

    def with_all(self, added: range) -> Numbers:
        """Return the set with numbers that follow each other and were not there, quicker than by :meth:`changed`."""
        if not added:
            return self
        chunks = [*self._chunks, *(bytes(_CHUNK) for _ in range(len(self._chunks), added[-1] // _CHUNK + 1))]
        for place in range(added[0] // _CHUNK, added[-1] // _CHUNK + 1):
            within = range(max(added[0], place * _CHUNK), min(added[-1], (place + 1) * _CHUNK - 1) + 1)
            chunk, begin = bytearray(chunks[place]), within[0] - place * _CHUNK
            chunk[begin : begin + len(within)] = bytes([1]) * len(within)
            chunks[place] = chunk
        return Numbers(tuple(chunks), self._count + len(added))

    def changed(self, removed: Iterable[int], added: Iterable[int]) -> Numbers:
        """Return the set after some have gone and then some have come.

        Raises:
            KeyError: when one is not there that goes, or is there that comes.
        """
        chunks, own, count = list(self._chunks), set[int](), self._count
        for numbers, there in ((removed, 1), (added, 0)):
            for number in numbers:
                place, offset = divmod(number, _CHUNK)
                if there and not 0 <= place < len(chunks):
                    raise KeyError(number)
                while place >= len(chunks):
                    chunks.append(bytes(_CHUNK))
                chunk = chunks[place] if place in own else bytearray(chunks[place])
                if chunk[offset] != there or not isinstance(chunk, bytearray):
                    raise KeyError(number)
                chunks[place] = chunk
                own.add(place)
                chunk[offset] = not there
                count += 1 - 2 * there
        return Numbers(tuple(chunks), count)


class Wordings:
    """Which edits may have a prompt or rephrase, by a part of its hash: 8 bytes a wording, in a table half empty.

    It is made when it is first asked, and then of what has come since. Readers may ask at once.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 6))
        self._used = self._upto = 0
        self._lock = threading.Lock()

    def find(self, text: str, last: int, read: Callable[[int], EditRecord]) -> list[int]:
        """Return the ids that a wording may be one of, rising; others than its own may be among them.

        Args:
            text: the wording, as :func:`horen.edits.same_text` has it.
            last: id of the last edit.
            read: gives the edit of an id.
        """
        if self._upto < last:
            with self._lock:
                for number in range(self._upto + 1, last + 1):
                    for each in wordings(read(number)):
                        self._add(_mark(each), number)
                    self._upto = number
        slots, mark, found = self._slots, _mark(text), set[int]()
        place = mark
        while slot := slots[place & (len(slots) - 1)]:
            if slot >> _BITS == mark:
                found.add(slot & _MASK)
            place += 1
        return sorted(number for number in found if number <= last)

    def _add(self, mark: int, number: int) -> None:
        if 3 * self._used > 2 * len(self._slots):
            larger = array("Q", bytes(2 * self._slots.itemsize * len(self._slots)))
            for slot in filter(None, self._slots):
                _put(larger, slot)
            self._slots = larger  # readers of the former one find all that it had
        _put(self._slots, mark << _BITS | number)
        self._used += 1


def _put(slots: array[int], slot: int) -> None:
    place, last = slot >> _BITS, len(slots) - 1
    while slots[place & last]:
        place += 1
    slots[place & last] = slot


def _mark(text: str) -> int:
    return hash(text) & _MASK


class Holders:
    """Which edit an entry of the codebook belongs to: 8 bytes an entry. It is made as :class:`Wordings` is."""

    def __init__(self) -> None:
        self._of = array("Q")
        self._upto = 0
        self._lock = threading.Lock()

    def find(self, entry: int, last: int, records: Records) -> int | None:
        """Return the id of the edit that has an entry.

        Args:
            entry: its number.
            last: id of the last edit.
            records: the edits.
        """
        if self._upto < last:
            with self._lock:
                if not self._upto:
                    known, self._of = records.holders()
                    self._upto = known  # last: who sees this asks the table and waits for nobody
                for number in range(self._upto + 1, last + 1):
                    for each in records.entries(number):
                        if each >= len(self._of):
                            self._of.extend(array("Q", bytes(8 * (each + 1 - len(self._of)))))
                        self._of[each] = number
                    self._upto = number
        number = self._of[entry] if 0 <= entry < len(self._of) else 0
        return number if 0 < number <= last else None


def wordings(record: EditRecord) -> dict[str, None]:
    """Return the wordings of an edit, as :func:`horen.edits.same_text` has them."""
    return dict.fromkeys(same_text(text) for text in (record.prompt, *record.rephrases))
