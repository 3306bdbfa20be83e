"""The history of edits: every operation in order, what is active now, and the way back. Knows no tensors."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from horen.edits import EditRecord, Undone, same_text
from horen.errors import EditError, EditNotFoundError
from horen.store.lookup import Holders, Numbers, Wordings, wordings
from horen.store.operations import Operation, no_history, now, operation_of, whole
from horen.store.packed import Records
from horen.store.scan import Scan
from horen.store.scanned import AddedLine, FileLines, ScannedRecords
from horen.store.steps import Lines, Step, Steps, operation_said


class _State(NamedTuple):
    """What a history says at one moment, of lists that go on growing behind it.

    Attributes:
        steps: how many operations there are.
        last: id of the last edit.
        active: ids of the active edits.
        undoable: number of the operation that an undo takes back; 0 for none.
    """

    steps: int = 0
    last: int = 0
    active: Numbers = Numbers()
    undoable: int = 0


class History:
    """Append-only; what is active follows from the operations alone. Each entry is of one edit.

    One thread appends at a time, in time that grows with the operation alone. Others may read meanwhile: they see every
    operation whole or not at all, because it is in the lists before the state tells of it.
    """

    def __init__(self, scanned: ScannedRecords | None = None) -> None:
        scanned = ScannedRecords(FileLines(Path(), b"")) if scanned is None else scanned
        self._records, self._steps = Records(scanned), Steps(scanned)
        self._wordings, self._holders = Wordings(), Holders()
        self._state = _State()

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, oldest first."""
        return tuple(self.operation(number) for number in range(1, self._state.steps + 1))

    @property
    def count(self) -> int:
        """How many operations there are."""
        return self._state.steps

    @property
    def next_id(self) -> int:
        """The id that the next edit gets; ids are never used twice."""
        return self._state.last + 1

    def active(self) -> list[EditRecord]:
        """Return the active edits by id."""
        return list(map(self._records.seen, self._state.active))

    def __len__(self) -> int:
        return len(self._state.active)

    def get(self, number: int) -> EditRecord:
        """Return the active edit of an id.

        Raises:
            EditNotFoundError: when there is none; the message says whether it existed once.
        """
        state = self._state
        if number in state.active:
            return self._records[number]
        if not isinstance(number, int) or not 0 < number <= state.last:
            raise EditNotFoundError(f"There is no edit {number}: list the edits to see their ids.")
        if not self._records.entries(number):
            raise EditNotFoundError(
                f"Edit {number} was removed, superseded or undone, and a compaction has dropped its entries: write "
                "it anew."
            )
        raise EditNotFoundError(
            f"Edit {number} was removed, superseded or undone: list the active edits, or undo the change."
        )

    def asleep(self) -> int:
        """Return how many edits have entries and are not active."""
        state = self._state
        return sum(bool(self._records.entries(number)) for number in state.active.absent(state.last))

    def find(self, wording: str) -> EditRecord | None:
        """Return the active edit that has this prompt or rephrase, up to white space."""
        return next(iter(self.find_all(wording)), None)

    def find_all(self, wording: str) -> list[EditRecord]:
        """Return every active edit that has this wording, by id; one whose prompt it is outranks the others."""
        text = same_text(wording)
        state = self._state
        numbers = self._wordings.find(text, state.last, self._records.__getitem__)
        records = [self._records[number] for number in numbers if number in state.active]
        found = [record for record in records if text in wordings(record)]
        return sorted(found, key=lambda record: same_text(record.prompt) != text)

    def owner(self, entry: int) -> EditRecord | None:
        """Return the active edit that a codebook entry belongs to."""
        state = self._state
        number = self._holders.find(entry, state.last, self._records)
        return None if number is None or number not in state.active else self._records[number]

    def holder(self, entry: int) -> EditRecord | None:
        """Return the edit that a codebook entry belongs to, active or not.

        For whoever has found an entry awake: another thread may have removed its edit since.
        """
        number = self._holders.find(entry, self._state.last, self._records)
        return None if number is None else self._records[number]

    def record(self, name: str, added: Iterable[EditRecord] = (), removed: Iterable[int] = ()) -> Operation:
        """Append an operation and make it so."""
        # What came before is packed first: nothing may be interrupted between the operation and the telling of it.
        self._records.pack(self._state.last)
        operation = Operation(self._state.steps + 1, name, now(), tuple(added), tuple(removed))
        self._append(operation)
        return operation

    def append(self, operation: Operation) -> None:
        """Append an operation that was made elsewhere, on a history like this one.

        Raises:
            KeyError: when it names an edit that it may not.
            ValueError: when it does not go with those before it.
        """
        self._records.pack(self._state.last)
        self._append(operation)

    def undo(self) -> tuple[Operation, Undone]:
        """Take back the last operation that has not been taken back.

        Raises:
            EditError: when there is none, or none since the last compaction.
        """
        state = self._state
        if not state.undoable:
            compacted = [number for number in range(1, state.steps + 1) if self._steps[number - 1].dropped]
            if not compacted:
                raise EditError("There is nothing to undo: no operation is left in the history.")
            raise EditError(
                f"There is nothing to undo since operation {compacted[-1]}, which compacted the codebook: what came "
                "before it cannot be taken back. Write an edit anew, with the texts that the history has."
            )
        target = self.operation(state.undoable)
        gone = (*target.restored, *(record.id for record in target.added))
        undone = Undone(target.name, gone, target.removed)
        self._append(Operation(state.steps + 1, "undo", now(), undoes=target.sequence))
        return target, undone

    def stored(self) -> list[EditRecord]:
        """Return every edit that has entries, active or not, by id."""
        records = map(self._records.seen, range(1, self._state.last + 1))
        return [record for record in records if record.entries]

    def compacted(self) -> tuple[History, list[int], list[int]]:
        """Return this history after a compaction, and the old numbers of entries and values that are left, each rising.

        Edits that are not active have no entries then, and those of the active ones are numbered anew in their order.
        It is the very same history where all edits that have entries are active.
        """
        state = self._state
        records = self.active()
        entries = sorted(entry for record in records for entry in record.entries)
        values = sorted({value for record in records for value in record.values})
        dropped = tuple(record.id for record in self.stored() if record.id not in state.active)
        if not dropped:
            return self, entries, values
        places, numbers = ({old: new for new, old in enumerate(some)} for some in (entries, values))

        def anew(record: EditRecord) -> EditRecord:
            if record.id not in state.active:
                return dataclasses.replace(record, entries=(), value=-1)
            return dataclasses.replace(
                record, entries=tuple(places[entry] for entry in record.entries), value=numbers[record.value]
            )

        after = History()
        for operation in map(self.operation, range(1, state.steps + 1)):
            after._append(dataclasses.replace(operation, added=tuple(map(anew, operation.added))))
        after._append(Operation(state.steps + 1, "compact", now(), dropped=dropped))
        return after, entries, values

    def lines(self) -> Lines:
        """Return one JSON object for each edit added and each other operation.

        Lines of one operation share ``sequence``.
        """
        return Lines(self._steps, self._state.steps, self._records)

    @classmethod
    def from_lines(cls, lines: Iterable[Mapping[str, Any]]) -> History:
        """Return the history that :meth:`lines` gave.

        Raises:
            StoreError: when the lines do not make one.
        """
        if isinstance(lines, FileLines):
            try:
                return cls._scanned(lines)
            # Of an earlier release, or no history: it is read more slowly, or what is wrong with it is told.
            except (ValueError, KeyError, OverflowError, msgspec.MsgspecError):
                pass
        return cls.from_operations(map(operation_of, lines))

    @classmethod
    def _scanned(cls, lines: FileLines) -> History:
        """Return the history of a file's lines, whose texts are not read yet."""
        scanned = ScannedRecords(lines)
        history = cls(scanned)
        steps, scan = history._steps, scanned.scan
        state = _State(len(steps), scan.lasts[-1], Numbers.of_bytes(scan.active.tobytes()), scan.undoable[0])
        last, awake, undoable = state.last, state.last, state.undoable
        for sequence, group in groupby(scanned.rest(), key=attrgetter("sequence")):
            if sequence != len(steps) + 1:
                raise ValueError(f"operation {len(steps) + 1} is missing")
            parts, before = list(group), last
            if set(map(type, parts)) == {AddedLine}:
                # What is active is found where it is needed: most operations of most histories add, and no more.
                last += len(parts)
                steps.found(len(parts), len(parts), undoable, plain=True)
                undoable = sequence
                continue
            state = _State(len(steps), before, state.active.with_all(range(awake + 1, before + 1)), undoable)
            state, step = history._after(state, operation_said(parts, scanned))
            steps.found(len(parts), len(step.added), step.below, plain=False)
            last = awake = state.last
            undoable = state.undoable
        history._state = _State(len(steps), last, state.active.with_all(range(awake + 1, last + 1)), undoable)
        return history

    def scan(self) -> Scan:
        """Return what the lines say that this was read from, and nothing has been added to."""
        scan = self._steps.scan
        scan.active, scan.undoable = array("B", self._state.active.to_bytes()), array("Q", [self._state.undoable])
        return scan

    @classmethod
    def from_operations(cls, parts: Iterable[Operation]) -> History:
        """Return the history of operations, each of which may come in parts, one after the other.

        Raises:
            StoreError: when they do not make one.
        """
        history = cls()
        try:
            for sequence, each in groupby(parts, key=lambda part: part.sequence):
                if sequence != history.count + 1:
                    raise ValueError(f"operation {history.count + 1} is missing")
                history._append(whole(list(each)))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            raise no_history(error) from error
        # Packing them would take three times as long as reading them does.
        history._records.keep(history._state.last)
        return history

    def entries(self, number: int) -> tuple[int, ...]:
        """Return the codebook entries of an edit, active or not."""
        return self._records.entries(number)

    def awake(self) -> array[int]:
        """Return the codebook entries of all active edits."""
        return self._records.entries_of(self._state.active.runs())

    def last_entry_and_value(self) -> tuple[int, int]:
        """Return the largest number of an entry and of a value that an edit has, active or not; -1 for none."""
        last = self._state.last
        return max(self._records.entries_of([(1, last)]), default=-1), self._records.last_value(last)

    def is_active(self, number: int) -> bool:
        """Return whether an edit of this id is active."""
        return number in self._state.active

    def made_at(self, number: int) -> str:
        """Return when the operation of a number was made; its edits are not looked at."""
        return self._steps[number - 1].at

    def operation(self, number: int) -> Operation:
        """Return the operation of a number, from 1."""
        return self._steps[number - 1].operation(number, self._records)

    def _append(self, operation: Operation) -> None:
        """Take an operation in; after an error, or where this is interrupted before it is in, nothing has changed."""
        before = self._state
        after, step = self._after(before, operation)
        self._steps.truncate(before.steps)  # what an interruption has left
        self._steps.append(step)
        self._records.add(before.last, operation.added if step.added else ())
        self._state = after

    def _after(self, state: _State, operation: Operation) -> tuple[_State, Step]:
        """Return what a history says after an operation, and what is kept of that.

        Raises:
            KeyError: when it names an edit that it may not.
            ValueError: when it does not go with those before it.
        """
        sequence, active, added = state.steps + 1, state.active, range(0)
        if operation.dropped:
            for number in operation.dropped:
                if not 0 < number <= state.last:
                    raise KeyError(number)
                if number in active or self._records.entries(number):
                    raise ValueError(f"operation {sequence} drops edits that have entries")
            below = undoable = 0
        elif operation.undoes is None:
            added = range(state.last + 1, state.last + 1 + len(operation.added))
            if any(record.id != number for record, number in zip(operation.added, added, strict=True)):
                raise ValueError(f"operation {sequence} does not add the edits that come next")
            if any(not 0 < number <= state.last for number in operation.restored):
                raise KeyError(min(operation.restored))
            active = active.changed(operation.removed, (*operation.restored, *added))
            below, undoable = state.undoable, sequence
        else:
            if not state.undoable or state.undoable != operation.undoes:
                raise ValueError(f"operation {sequence} undoes {operation.undoes} out of order")
            target = self._steps[state.undoable - 1]
            active = active.changed((*target.restored, *target.added), target.removed)
            below, undoable = 0, target.below
        return _State(sequence, state.last + len(added), active, undoable), Step.of(operation, added, below)
