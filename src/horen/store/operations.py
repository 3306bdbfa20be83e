"""Operations of a history: what each is, and the lines that say it."""

from __future__ import annotations

import dataclasses
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from horen.edits import EditRecord
from horen.errors import StoreError
from horen.store.content import EachAsked, as_json
from horen.store.packed import Records, fields_of


@dataclass(frozen=True)
class Operation:
    """One step of the history: edits that came and edits that went, together.

    Attributes:
        sequence: number of the operation, from 1.
        name: edit, supersede, remove, undo or compact; a store (:mod:`horen.database`) has others besides.
        at: time, ISO 8601 in UTC.
        added: edits that became active.
        removed: ids of edits that became inactive.
        restored: ids of edits that had been inactive and became active again.
        undoes: for an undo the number of the operation that it took back.
        dropped: for a compaction the ids of the edits that have no entries since, so that nothing before it can be
            taken back.
    """

    sequence: int
    name: str
    at: str
    added: tuple[EditRecord, ...] = ()
    removed: tuple[int, ...] = ()
    undoes: int | None = None
    dropped: tuple[int, ...] = ()
    restored: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """An operation as a history keeps it: ids take eight bytes each, and those of what was added are a range.

    Attributes:
        name: see :class:`Operation`, as those that follow.
        at: likewise.
        added: ids of edits that became active.
        removed: likewise.
        restored: likewise.
        undoes: likewise.
        dropped: likewise.
        below: number of the operation that can be taken back once this one is; 0 for none.
    """

    name: str
    at: str
    added: range
    removed: Sequence[int]
    restored: Sequence[int]
    undoes: int | None
    dropped: Sequence[int]
    below: int

    @classmethod
    def of(cls, operation: Operation, added: range, below: int) -> Step:
        """Return what is kept of an operation whose ids are checked."""
        lists = operation.removed, operation.restored, operation.dropped
        removed, restored, dropped = (array("Q", ids) if ids else () for ids in lists)
        return cls(operation.name, operation.at, added, removed, restored, operation.undoes, dropped, below)

    def operation(self, sequence: int, records: Records) -> Operation:
        """Return it with its number and its edits."""
        added = tuple(map(records.seen, self.added))
        removed, dropped, restored = tuple(self.removed), tuple(self.dropped), tuple(self.restored)
        return Operation(sequence, self.name, self.at, added, removed, self.undoes, dropped, restored)

    @property
    def lines(self) -> int:
        """How many lines it takes."""
        return len(self.added) + bool(self.removed or self.restored) or 1

    def head(self, sequence: int) -> dict[str, Any]:
        """Return what its lines have in common."""
        return {"sequence": sequence, "operation": self.name, "at": self.at}

    def line(self, number: int, sequence: int, records: Records) -> dict[str, Any]:
        """Return one of its lines, from 0."""
        head = self.head(sequence)
        if self.undoes is not None:
            return head | {"undoes": self.undoes}
        if self.dropped:
            return head | {"dropped": list(self.dropped)}
        if number < len(self.added):
            return head | {"edit": fields_of(records[self.added[number]])}
        return head | {"removed": list(self.removed)} | ({"restored": list(self.restored)} if self.restored else {})


class Lines(EachAsked):
    """The lines that operations are written as; each is made when it is asked for.

    Args:
        steps: the operations, to which more may be added meanwhile.
        count: how many of them.
        records: their edits.
    """

    def __init__(self, steps: Sequence[Step], count: int, records: Records) -> None:
        self._steps, self._count, self._records = steps, count, records
        self._ends = array("Q", accumulate((steps[number].lines for number in range(count)), initial=0))

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, place: int) -> dict[str, Any]:
        """Return one line, from 0."""
        number = bisect_right(self._ends, place) - 1
        return self._steps[number].line(place - self._ends[number], number + 1, self._records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self._count):
            step = self._steps[number]
            yield from (step.line(place, number + 1, self._records) for place in range(step.lines))

    def any_has(self, name: str) -> bool:
        """Return whether an operation has ids in its list of this name."""
        return any(getattr(self._steps[number], name) for number in range(self._count))

    def written(self, begin: int) -> Iterator[dict[str, Any] | bytes]:
        """Yield the lines from one on; those of packed records as they are written."""
        first = bisect_right(self._ends, begin) - 1
        for number in range(first, self._count):
            step, head = self._steps[number], b""
            for place in range(max(0, begin - self._ends[number]), step.lines):
                told = self._records.line(step.added[place]) if place < len(step.added) else None
                if told is None:
                    yield step.line(place, number + 1, self._records)
                    continue
                if not head:
                    head = as_json(step.head(number + 1)).removesuffix(b"}")
                yield b'%b,"edit":%b}' % (head, told)


def now() -> str:
    """Return the present time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def operation_of(line: Mapping[str, Any]) -> Operation:
    """Return what a line says of an operation, which may go on in the next line.

    Raises:
        KeyError: when something is missing.
        TypeError: when something is of another type.
        ValueError: when something is one thing more, or no number.
    """
    return Operation(
        int(line["sequence"]),
        line["operation"],
        line["at"],
        (EditRecord.of(line["edit"]),) if "edit" in line else (),
        tuple(int(number) for number in line.get("removed", ())),
        line.get("undoes"),
        tuple(int(number) for number in line.get("dropped", ())),
        tuple(int(number) for number in line.get("restored", ())),
    )


def whole(group: Sequence[Operation]) -> Operation:
    """Return the operation whose parts these are.

    Raises:
        ValueError: when something that has no parts is there twice.
    """
    if len(group) > 1 and any(part.undoes is not None or part.dropped for part in group):
        raise ValueError(f"operation {group[0].sequence} is there twice")
    added = tuple(record for part in group for record in part.added)
    removed = tuple(number for part in group for number in part.removed)
    restored = tuple(number for part in group for number in part.restored)
    return dataclasses.replace(group[0], added=added, removed=removed, restored=restored)


def no_history(error: Exception) -> StoreError:
    """Say that lines do not make a history."""
    return StoreError(f"edits.jsonl does not hold a history of edits ({error!r}): restore the folder from a copy.")
