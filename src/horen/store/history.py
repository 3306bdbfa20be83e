"""The history of edits: every operation in order, what is active now, and the way back. Knows no tensors."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, groupby
from typing import Any, overload

from horen.edits import EditRecord, Undone, same_text
from horen.errors import EditError, EditNotFoundError, StoreError


@dataclass(frozen=True)
class Operation:
    """One step of the history: edits that came and edits that went, together.

    Attributes:
        sequence: number of the operation, from 1.
        name: edit, supersede, remove, undo or compact.
        at: time, ISO 8601 in UTC.
        added: edits that became active.
        removed: ids of edits that became inactive.
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


_STORED = tuple(field.name for field in dataclasses.fields(EditRecord))


class _State:
    """What a history says at one moment: readers take one, and whoever appends makes the next of a copy."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.records: dict[int, EditRecord] = {}
        self.active: dict[int, EditRecord] = {}
        self.undoable: list[Operation] = []
        self.last = 0
        # Made when they are first asked for, and kept up from then on: not everybody looks edits up.
        self._wordings: dict[str, tuple[int, ...]] | None = None
        self._holders: dict[int, int] | None = None

    @property
    def wordings(self) -> dict[str, tuple[int, ...]]:
        """Ids of the active edits that have a prompt or rephrase, the earliest first."""
        found = self._wordings
        if found is None:
            found = {}
            for record in self.active.values():
                _add_wordings(found, record)
            self._wordings = found
        return found

    @property
    def holders(self) -> dict[int, int]:
        """The id of the edit that a codebook entry belongs to."""
        found = self._holders
        if found is None:
            found = {entry: record.id for record in self.records.values() for entry in record.entries}
            self._holders = found
        return found

    def copied(self) -> _State:
        """Return another one that says the same."""
        other = _State()
        for name, value in vars(self).items():
            setattr(other, name, value.copy() if isinstance(value, list | dict) else value)
        return other

    def append(self, operation: Operation) -> None:
        """Take an operation in; after an error this state is of no use."""
        if operation.dropped:
            if any(number in self.active or self.records[number].entries for number in operation.dropped):
                raise ValueError(f"operation {operation.sequence} drops edits that have entries")
            self.undoable.clear()
        elif operation.undoes is None:
            expected = range(self.last + 1, self.last + 1 + len(operation.added))
            if [record.id for record in operation.added] != list(expected):
                raise ValueError(f"operation {operation.sequence} does not add the edits that come next")
            self._apply(operation.added, operation.removed)
            self.last += len(operation.added)
            self.undoable.append(operation)
        else:
            target = self.undoable.pop()
            if target.sequence != operation.undoes:
                raise ValueError(f"operation {operation.sequence} undoes {operation.undoes} out of order")
            self._apply([self.records[number] for number in target.removed], [record.id for record in target.added])
        self.operations.append(operation)

    def _apply(self, added: Iterable[EditRecord], removed: Iterable[int]) -> None:
        for number in removed:
            record = self.active.pop(number)
            if self._wordings is not None:
                for text in _wordings(record):
                    left = tuple(other for other in self._wordings.pop(text) if other != number)
                    if left:
                        self._wordings[text] = left
        for record in added:
            self.records[record.id] = self.active[record.id] = record
            if self._holders is not None:
                self._holders.update(dict.fromkeys(record.entries, record.id))
            if self._wordings is not None:
                _add_wordings(self._wordings, record)


class History:
    """Append-only; what is active follows from the operations alone. Each entry is of one edit.

    One thread appends at a time. Others may read meanwhile: they see every operation whole or not at all.
    """

    def __init__(self) -> None:
        self._state = _State()

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, oldest first."""
        return tuple(self._state.operations)

    @property
    def next_id(self) -> int:
        """The id that the next edit gets; ids are never used twice."""
        return self._state.last + 1

    def active(self) -> list[EditRecord]:
        """Return the active edits by id."""
        active = self._state.active
        return [active[number] for number in sorted(active)]

    def __len__(self) -> int:
        return len(self._state.active)

    def get(self, number: int) -> EditRecord:
        """Return the active edit of an id.

        Raises:
            EditNotFoundError: when there is none; the message says whether it existed once.
        """
        state = self._state
        if number in state.active:
            return state.active[number]
        if number in state.records:
            if not state.records[number].entries:
                raise EditNotFoundError(
                    f"Edit {number} was removed, superseded or undone, and a compaction has dropped its entries: write "
                    "it anew."
                )
            raise EditNotFoundError(
                f"Edit {number} was removed, superseded or undone: list the active edits, or undo the change."
            )
        raise EditNotFoundError(f"There is no edit {number}: list the edits to see their ids.")

    def asleep(self) -> int:
        """Return how many edits have entries and are not active."""
        state = self._state
        return sum(bool(r.entries) for number, r in state.records.items() if number not in state.active)

    def find(self, wording: str) -> EditRecord | None:
        """Return the active edit that has this prompt or rephrase, up to white space."""
        return next(iter(self.find_all(wording)), None)

    def find_all(self, wording: str) -> list[EditRecord]:
        """Return every active edit that has this wording; one whose prompt it is outranks one whose rephrase it is."""
        text = same_text(wording)
        state = self._state
        found = [state.active[number] for number in state.wordings.get(text, ())]
        return sorted(found, key=lambda record: same_text(record.prompt) != text)

    def owner(self, entry: int) -> EditRecord | None:
        """Return the active edit that a codebook entry belongs to."""
        state = self._state
        number = state.holders.get(entry)
        return None if number is None else state.active.get(number)

    def holder(self, entry: int) -> EditRecord | None:
        """Return the edit that a codebook entry belongs to, active or not.

        For whoever has found an entry awake: another thread may have removed its edit since.
        """
        state = self._state
        number = state.holders.get(entry)
        return None if number is None else state.records[number]

    def record(self, name: str, added: Iterable[EditRecord] = (), removed: Iterable[int] = ()) -> Operation:
        """Append an operation and make it so."""
        operation = Operation(len(self._state.operations) + 1, name, now(), tuple(added), tuple(removed))
        self._append(operation)
        return operation

    def undo(self) -> tuple[Operation, Undone]:
        """Take back the last operation that has not been taken back.

        Raises:
            EditError: when there is none, or none since the last compaction.
        """
        undoable = self._state.undoable
        compacted = [operation.sequence for operation in self._state.operations if operation.dropped]
        if not undoable and compacted:
            raise EditError(
                f"There is nothing to undo since operation {compacted[-1]}, which compacted the codebook: what came "
                "before it cannot be taken back. Write an edit anew, with the texts that the history has."
            )
        if not undoable:
            raise EditError("There is nothing to undo: no operation is left in the history.")
        target = undoable[-1]
        undone = Undone(target.name, tuple(record.id for record in target.added), target.removed)
        self._append(Operation(len(self._state.operations) + 1, "undo", now(), undoes=target.sequence))
        return target, undone

    def stored(self) -> list[EditRecord]:
        """Return every edit that has entries, active or not, by id."""
        return [record for record in self._state.records.values() if record.entries]

    def compacted(self) -> tuple[History, list[int], list[int]]:
        """Return this history after a compaction, and the old numbers of entries and values that are left, each rising.

        Edits that are not active have no entries then, and those of the active ones are numbered anew in their order.
        It is the very same history where all edits that have entries are active.
        """
        state = self._state
        entries = sorted(entry for record in state.active.values() for entry in record.entries)
        values = sorted({value for record in state.active.values() for value in record.values})
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

        after = _State()
        for operation in state.operations:
            after.append(dataclasses.replace(operation, added=tuple(map(anew, operation.added))))
        after.append(Operation(len(after.operations) + 1, "compact", now(), dropped=dropped))
        return self._of(after), entries, values

    def lines(self) -> Lines:
        """Return one JSON object for each edit added and each other operation.

        Lines of one operation share ``sequence``.
        """
        return Lines(self.operations)

    @classmethod
    def from_lines(cls, lines: Iterable[Mapping[str, Any]]) -> History:
        """Return the history that :meth:`lines` gave.

        Raises:
            StoreError: when the lines do not make one.
        """
        return cls.from_operations(map(operation_of, lines))

    @classmethod
    def from_operations(cls, parts: Iterable[Operation]) -> History:
        """Return the history of operations, each of which may come in parts, one after the other.

        Raises:
            StoreError: when they do not make one.
        """
        state = _State()
        try:
            for sequence, each in groupby(parts, key=lambda part: part.sequence):
                group = list(each)
                if sequence != len(state.operations) + 1:
                    raise ValueError(f"operation {len(state.operations) + 1} is missing")
                if len(group) > 1 and any(part.undoes is not None or part.dropped for part in group):
                    raise ValueError(f"operation {sequence} is there twice")
                added = tuple(record for part in group for record in part.added)
                removed = tuple(number for part in group for number in part.removed)
                state.append(dataclasses.replace(group[0], added=added, removed=removed))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            raise no_history(error) from error
        return cls._of(state)

    def entries(self, number: int) -> tuple[int, ...]:
        """Return the codebook entries of an edit, active or not."""
        return self._state.records[number].entries

    def is_active(self, number: int) -> bool:
        """Return whether an edit of this id is active."""
        return number in self._state.active

    @classmethod
    def _of(cls, state: _State) -> History:
        history = cls()
        history._state = state
        return history

    def _append(self, operation: Operation) -> None:
        after = self._state.copied()
        after.append(operation)
        self._state = after


class Lines(Sequence[dict[str, Any]]):
    """The lines that operations are written as; each is made when it is asked for."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations
        self._ends = [0, *accumulate(map(_count, operations))]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        place = range(len(self))[place]
        number = bisect_right(self._ends, place) - 1
        return _line(self._operations[number], place - self._ends[number])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for operation in self._operations:
            yield from (_line(operation, number) for number in range(_count(operation)))


def _count(operation: Operation) -> int:
    """Return how many lines an operation takes."""
    return len(operation.added) + bool(operation.removed) or 1


def _line(operation: Operation, number: int) -> dict[str, Any]:
    head = {"sequence": operation.sequence, "operation": operation.name, "at": operation.at}
    if operation.undoes is not None:
        return head | {"undoes": operation.undoes}
    if operation.dropped:
        return head | {"dropped": list(operation.dropped)}
    if number < len(operation.added):
        return head | {"edit": _fields(operation.added[number])}
    return head | {"removed": list(operation.removed)}


def now() -> str:
    """Return the present time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _wordings(record: EditRecord) -> dict[str, None]:
    return dict.fromkeys(same_text(text) for text in (record.prompt, *record.rephrases))


def _add_wordings(found: dict[str, tuple[int, ...]], record: EditRecord) -> None:
    for text in _wordings(record):
        found[text] = (*found.get(text, ()), record.id)


def _fields(record: EditRecord) -> dict[str, Any]:
    # What dataclasses.asdict gives, without a copy of each: texts, numbers and tuples of them need none.
    return {name: getattr(record, name) for name in _STORED if name != "left" or record.left}


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
    )


def no_history(error: Exception) -> StoreError:
    """Say that lines do not make a history."""
    return StoreError(f"edits.jsonl does not hold a history of edits ({error!r}): restore the folder from a copy.")
