"""Operations of a history: what each is, and what its lines say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from horen.edits import EditRecord
from horen.errors import StoreError


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
