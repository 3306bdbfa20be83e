"""Rows of the database as the records that a store tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select

from horen.database.checks import bounded
from horen.database.records import By, Draft, Facts, StoredEdit, Version
from horen.database.schema import draft, edit, edit_set, version, version_tag
from horen.database.seals import check_seal, damaged
from horen.errors import EditNotFoundError

# So many values go into one statement: SQLite takes no more than 32,766.
_TOGETHER = 5000
#: Fields of a receipt that a person reads; the others say where an edit's rows are.
_TOLD = ("loss", "steps", "converged", "reused")

_Item = TypeVar("_Item")


def parts(items: Sequence[_Item], size: int = _TOGETHER) -> Iterator[Sequence[_Item]]:
    """Yield a list in parts that fit one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def stored(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[StoredEdit, ...]:
    """Return the edits of rows, in their order.

    Raises:
        StoreError: when the row of one is damaged.
    """
    on = {row.name: row.switched_on for row in connection.execute(select(edit_set.c.name, edit_set.c.switched_on))}
    return tuple(_stored(check_edit(row, on)) for row in rows)


def check_edit(row: Row[Any], on: Mapping[str, bool]) -> Row[Any]:
    """Return the row of an edit.

    Args:
        row: of the edit.
        on: whether each set is on, by its name.

    Raises:
        StoreError: when it is not as it was written, or is active and should not be, or the other way round.
    """
    check_seal(edit, row)
    if row.active != (row.state == "published" and on.get(row.set_name, True)):
        raise damaged(edit, row)
    return row


def _stored(row: Row[Any]) -> StoredEdit:
    return StoredEdit(
        id=row.id,
        prompt=row.prompt,
        target=row.target,
        rephrases=tuple(row.rephrases),
        facts=Facts(row.subject, row.source, tuple(row.tags), row.set_name),
        author=row.author,
        reason=row.reason,
        created=row.created,
        version=row.version,
        state=row.state,
        active=row.active,
        replaces=tuple(row.replaces),
        draft=row.draft,
        receipt=told(row.receipt),
    )


def told(receipt: dict[str, Any]) -> dict[str, Any]:
    """Return of a receipt what a person reads."""
    return {name: receipt[name] for name in _TOLD if name in receipt}


def rows_of(connection: Connection, numbers: Sequence[int]) -> dict[int, Row[Any]]:
    """Return the rows of edits by id.

    Raises:
        EditNotFoundError: when one of them was never there.
    """
    found: dict[int, Row[Any]] = {}
    for some in parts(list(dict.fromkeys(map(bounded, numbers)))):
        rows = connection.execute(select(edit).where(edit.c.id.in_(some)))
        found |= {row.id: row for row in rows}
    for number in numbers:
        if number not in found:
            raise EditNotFoundError(f"There is no edit {number}: list the edits to see their ids.")
    return found


def edits_of(connection: Connection, numbers: Sequence[int]) -> dict[int, StoredEdit]:
    """Return edits by id.

    Raises:
        EditNotFoundError: when one of them was never there.
        StoreError: when the row of one is damaged.
    """
    rows = list(rows_of(connection, numbers).values())
    return {one.id: one for one in stored(connection, rows)}


def drafted(row: Row[Any]) -> Draft:
    """Return the draft of a row.

    Raises:
        StoreError: when the row is damaged.
    """
    check_seal(draft, row)
    return Draft(
        id=row.id,
        state=row.state,
        prompt=row.prompt,
        target=row.target,
        rephrases=tuple(row.rephrases),
        facts=Facts(row.subject, row.source, tuple(row.tags), row.set_name),
        author=row.author,
        reason=row.reason,
        created=row.created,
        wrong=row.wrong,
        replaces=tuple(row.replaces),
        publish=row.publish,
        done=row.done,
        total=row.total,
        base=None if row.base is None else row.base["version"],
        similar=row.similar,
        receipt=told(row.receipt),
        evaluation=row.evaluation,
        error=row.error,
        edit=row.edit,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        decision=row.decision,
    )


def versions_of(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Version, ...]:
    """Return the versions of rows, in their order.

    Raises:
        StoreError: when the row of one is damaged.
    """
    for row in rows:
        check_seal(version, row)
    numbers = [row.number for row in rows]
    added: dict[int, list[int]] = {}
    tags: dict[int, list[str]] = {}
    for some in parts(numbers):
        for number, each in connection.execute(
            select(edit.c.version, edit.c.id).where(edit.c.version.in_(some)).order_by(edit.c.version, edit.c.id)
        ):
            added.setdefault(number, []).append(each)
        for name, number in connection.execute(
            select(version_tag.c.name, version_tag.c.version).where(version_tag.c.version.in_(some))
        ):
            tags.setdefault(number, []).append(name)
    return tuple(
        Version(
            number=row.number,
            operation=row.operation,
            at=row.at,
            by=By(row.actor, row.reason),
            added=tuple(added.get(row.number, ())),
            removed=tuple(row.removed),
            restored=tuple(row.restored),
            undoes=row.undoes,
            target=row.target,
            described=row.changes,
            tags=tuple(sorted(tags.get(row.number, ()))),
        )
        for row in rows
    )


def version_of(connection: Connection, number: int) -> Version:
    """Return a version that is there."""
    return versions_of(connection, connection.execute(select(version).where(version.c.number == number)).all())[0]
