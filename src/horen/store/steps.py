"""The operations of a history as it keeps them, and the lines that they are written as."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from horen.edits import EditRecord
from horen.store.content import EachAsked, as_json
from horen.store.operations import Operation, whole
from horen.store.packed import Records, fields_of
from horen.store.scanned import AddedLine, AnyLine, ScannedRecords, said


@dataclass(frozen=True, slots=True)
class Step:
    """An operation as a history keeps it: ids take eight bytes each, and those of what was added are a range.

    Attributes:
        name: see :class:`horen.store.operations.Operation`, as those that follow.
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

    def line(self, number: int, sequence: int, records: Records | Mapping[int, EditRecord]) -> dict[str, Any]:
        """Return one of its lines, from 0."""
        head = self.head(sequence)
        if self.undoes is not None:
            return head | {"undoes": self.undoes}
        if self.dropped:
            return head | {"dropped": list(self.dropped)}
        if number < len(self.added):
            return head | {"edit": fields_of(records[self.added[number]])}
        return head | {"removed": list(self.removed)} | ({"restored": list(self.restored)} if self.restored else {})


class Steps:
    """The operations of a history by their place, from 0; those that a file's lines say are read when asked for.

    One thread adds at a time. Others may read meanwhile what they know to be there.

    Args:
        records: the edits of those lines.

    Attributes:
        scan: what those lines say.
    """

    def __init__(self, records: ScannedRecords) -> None:
        self._records, self.scan = records, records.scan
        self._own: list[Step] = []

    @property
    def scanned(self) -> int:
        """How many of them are in a file's lines."""
        return len(self.scan.below)

    def __len__(self) -> int:
        return self.scanned + len(self._own)

    def __getitem__(self, place: int) -> Step:
        """Return one of them."""
        if place >= self.scanned:
            return self._own[place - self.scanned]
        scan, line = self.scan, self._records.lines.line
        begin, end = scan.begins[place], scan.begins[place + 1]
        # All that is to be known of one that adds edits, and does no more, is in each of its lines.
        parts = [said(line(each)) for each in range(begin, begin + 1 if scan.plain[place] else end)]
        added = range(scan.lasts[place] + 1, scan.lasts[place + 1] + 1)
        return Step.of(operation_said(parts, self._records), added, scan.below[place])

    def found(self, lines: int, added: int, below: int, *, plain: bool) -> None:
        """Take in the next operation of the file: how many lines it has and edits it adds, and what else is kept."""
        scan = self.scan
        scan.begins.append(scan.begins[-1] + lines)
        scan.lasts.append(scan.lasts[-1] + added)
        scan.plain.append(plain)
        scan.below.append(below)

    def append(self, step: Step) -> None:
        """Add an operation."""
        self._own.append(step)

    def truncate(self, count: int) -> None:
        """Forget all but the first so many, among which are those of the file."""
        del self._own[count - self.scanned :]

    def line_ends(self, count: int) -> array[int]:
        """Return how many lines are written for none of them, for the first, the first two, and so on."""
        ends = self.scan.begins[: count + 1]
        for step in self._own[: max(0, count - self.scanned)]:
            ends.append(ends[-1] + step.lines)
        return ends

    def file_lines(self, begin: int, count: int) -> Iterator[bytes]:
        """Yield the lines of the file from one on, without their ends, as far as the first so many reach."""
        line = self._records.lines.line
        for place in range(begin, self.scan.begins[min(count, self.scanned)]):
            yield line(place).removesuffix(b"\n")

    def any_has(self, name: str, count: int) -> bool:
        """Return whether one of the first so many has ids in its list of this name."""
        plain = self.scan.plain
        return any(getattr(self[place], name) for place in range(count) if place >= self.scanned or not plain[place])


class Lines(EachAsked):
    """The lines that operations are written as; each is made when it is asked for.

    Args:
        steps: the operations, to which more may be added meanwhile.
        count: how many of them.
        records: their edits.
    """

    def __init__(self, steps: Steps, count: int, records: Records) -> None:
        self._steps, self._count, self._records = steps, count, records
        self._ends = steps.line_ends(count)

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
        return self._steps.any_has(name, self._count)

    def written(self, begin: int) -> Iterator[dict[str, Any] | bytes]:
        """Yield the lines from one on; those of a file, and of packed records, as they are written."""
        yield from self._steps.file_lines(begin, self._count)
        begin = max(begin, self._ends[min(self._count, self._steps.scanned)])
        for number in range(bisect_right(self._ends, begin) - 1, self._count):
            step, head = self._steps[number], b""
            for place in range(max(0, begin - self._ends[number]), step.lines):
                told = self._records.line(step.added[place]) if place < len(step.added) else None
                if told is None:
                    yield step.line(place, number + 1, self._records)
                    continue
                if not head:
                    head = as_json(step.head(number + 1)).removesuffix(b"}")
                yield b'%b,"edit":%b}' % (head, told)


def lines_of(operation: Operation) -> list[dict[str, Any]]:
    """Return the lines of one operation."""
    first = operation.added[0].id if operation.added else 0
    step = Step.of(operation, range(first, first + len(operation.added)), 0)
    records = {record.id: record for record in operation.added}
    return [step.line(number, operation.sequence, records) for number in range(step.lines)]


def operation_said(parts: Sequence[AddedLine | AnyLine], records: ScannedRecords) -> Operation:
    """Return the operation that lines say; of its edits no more is read than the ids.

    Raises:
        ValueError: when something that has no parts is there twice.
    """
    return whole(
        [
            Operation(
                part.sequence,
                part.operation,
                part.at,
                () if part.edit is None else (records.later(part.edit.id),),
                *((part.removed, part.undoes, part.dropped, part.restored) if isinstance(part, AnyLine) else ()),
            )
            for part in parts
        ]
    )
