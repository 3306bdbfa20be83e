"""The audit log: who did what, when and why. Lines are added to it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from horen.database.checks import bounded
from horen.database.connection import Database
from horen.database.records import By, Event, Page
from horen.database.schema import audit
from horen.database.seals import check_seal, sealed
from horen.database.texts import now


def logged(
    connection: Connection,
    by: By,
    action: str,
    of: str,
    *,
    version: int | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a line, in the transaction of what it tells."""
    told = {"at": now(), "actor": by.actor, "reason": by.reason, "action": action, "object": of, "version": version}
    connection.execute(insert(audit).values(sealed(audit, {**told, "detail": dict(detail or {})})))


class Audit:
    """The audit log of a store.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, by: By, action: str, of: str, detail: Mapping[str, Any] | None = None) -> None:
        """Add a line about what was done outside of the store.

        Raises:
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            logged(connection, by, action, of, detail=detail)

    def list(
        self, *, before: int | None = None, limit: int = 50, actor: str | None = None, action: str | None = None
    ) -> Page[Event]:
        """Return lines, the newest first.

        Args:
            before: number of the line that they come before; None for the newest.
            limit: at most so many.
            actor: whose lines; None for all.
            action: lines of this alone; None for all.

        Raises:
            StoreError: when the database cannot be read.
        """
        wanted = select(audit).order_by(audit.c.id.desc()).limit(limit + 1)
        if before is not None:
            wanted = wanted.where(audit.c.id < bounded(before))
        if actor is not None:
            wanted = wanted.where(audit.c.actor == actor)
        if action is not None:
            wanted = wanted.where(audit.c.action == action)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        items = tuple(
            Event(row.id, row.at, By(row.actor, row.reason), row.action, row.object, row.version, row.detail)
            for row in (check_seal(audit, row) for row in rows[:limit])
        )
        return Page(items, items[-1].id if len(rows) > limit else None)
