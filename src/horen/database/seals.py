"""Seals: a digest of what a row says, in the row, so that damage shows before anything of it is believed.

A database's own checks see that a file is whole in form. A byte that is altered within a text keeps the form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Table, select, update

from horen.errors import StoreError

# What changes from moment to moment, or follows from the rest; and numbers that the database gives.
_LEFT_OUT = frozenset({"seal", "active", "words", "taken_by", "taken_until"})
_NUMBERED = frozenset({"audit.id", "draft.id"})


def seal_of(table: Table, told: Mapping[str, Any]) -> bytes:
    """Return the seal of a row, given what its columns hold; those that are not told are empty."""
    said = json.dumps([told.get(name) for name in _names(table)], default=_short)
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def sealed(table: Table, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the columns of a row hold, with its seal."""
    return {**told, "seal": seal_of(table, told)}


def check_seal(table: Table, row: Row[Any]) -> Row[Any]:
    """Return a row.

    Raises:
        StoreError: when it is not as it was written.
    """
    if row.seal != seal_of(table, row._mapping):  # type: ignore[arg-type]
        raise damaged(table, row)
    return row


def damaged(table: Table, row: Row[Any]) -> StoreError:
    """Say that a row is not as it was written."""
    key = row._mapping[next(iter(table.primary_key)).name]
    return StoreError(f"The row {key!r} of the table {table.name} is damaged: restore the store from a backup.")


@cache
def _names(table: Table) -> tuple[str, ...]:
    names = [column.name for column in table.columns if str(column) not in _NUMBERED]
    return tuple(name for name in names if name not in _LEFT_OUT)


def _short(content: Any) -> str:
    if not isinstance(content, bytes | memoryview):
        raise TypeError(f"a {type(content).__name__} has no seal")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def seal_again(connection: Connection, table: Table, number: int) -> Row[Any]:
    """Seal a row after a change of it, and return it."""
    here = table.c.id == number
    row = connection.execute(select(table).where(here)).one()
    connection.execute(update(table).where(here).values(seal=seal_of(table, row._mapping)))  # type: ignore[arg-type]
    return row
