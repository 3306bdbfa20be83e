"""Edit sets: named groups of edits that are switched on and off together, and merged."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, and_, func, insert, select, update

from horen.database.audit import logged
from horen.database.changing import Change
from horen.database.checks import check_name
from horen.database.clashes import between
from horen.database.connection import Database
from horen.database.edits import check_set
from horen.database.records import OPEN, By, Clash, EditSet, Version
from horen.database.schema import draft, edit, edit_set
from horen.database.seals import seal_again
from horen.errors import ConflictError, EditError

#: Whose edits stay where two sets are merged.
OnClash = Literal["error", "ours", "theirs"]


class Sets:
    """The edit sets of a store.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> tuple[EditSet, ...]:
        """Return the sets by name.

        Raises:
            StoreError: when the database cannot be read.
        """
        published = and_(edit.c.set_name == edit_set.c.name, edit.c.state == "published")
        wanted = (
            select(edit_set.c.name, edit_set.c.switched_on, func.count(edit.c.id))
            .select_from(edit_set.outerjoin(edit, published))
            .group_by(edit_set.c.name, edit_set.c.switched_on)
            .order_by(edit_set.c.name)
        )
        with self._database.reading() as connection:
            return tuple(EditSet(*row) for row in connection.execute(wanted))

    def make(self, name: str, by: By, *, on: bool = True) -> EditSet:
        """Make an empty set.

        Raises:
            EditError: for a blank name, or when there is one of this name.
            StoreError: when the database cannot be written.
        """
        check_name(name, "name of a set")
        with self._database.writing() as connection:
            if connection.execute(select(edit_set.c.name).where(edit_set.c.name == name)).first() is not None:
                raise EditError(f"There is a set {name!r} already: choose another name.")
            connection.execute(insert(edit_set).values(name=name, switched_on=on))
            logged(connection, by, "set.make", f"set {name}", detail={"on": on})
        return EditSet(name, on, 0)

    def switch(self, name: str, on: bool, by: By) -> Version:
        """Let the published edits of a set answer, or not.

        Raises:
            EditError: when there is no such set, or it is like that already.
            ConflictError: when an edit would wake that clashes with another.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            check_set(connection, name)
            change = Change(connection, "switch", by)
            change.switch(name, on)
            return change.finish()

    def clashes(self, into: str, other: str) -> tuple[Clash, ...]:
        """Return which published edits of two sets cannot both be active.

        Raises:
            EditError: when one of the sets is not there.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            for name in (into, other):
                check_set(connection, name)
            return tuple(between(connection, into, other))

    def merge(self, into: str, other: str, by: By, *, on_conflict: OnClash = "error") -> Version:
        """Put the published edits of one set into another; the emptied set goes.

        Args:
            into: the set that stays.
            other: the set whose edits come.
            by: who does it, and why.
            on_conflict: where an edit of each cannot stay beside the other: "error" refuses all, "ours" retires that
                of ``other``, "theirs" that of ``into``.

        Raises:
            EditError: when one of the sets is not there, or they are the same.
            ConflictError: with ``on_conflict="error"``, with both sides of each clash.
            StoreError: when the database cannot be written.
        """
        if on_conflict not in {"error", "ours", "theirs"}:
            raise EditError(f"on_conflict={on_conflict!r} is not valid: use 'error', 'ours' or 'theirs'.")
        if into == other:
            raise EditError(f"A set cannot be merged with itself ({into!r}): name two.")
        with self._database.writing() as connection:
            for name in (into, other):
                check_set(connection, name)
            found = between(connection, into, other)
            if found and on_conflict == "error":
                raise ConflictError(
                    f"The sets {into!r} and {other!r} contradict each other in {len(found)} edits, the first of which "
                    f"answer {found[0].wording!r} with {found[0].ours.target!r} and {found[0].theirs.target!r}: merge "
                    "with on_conflict 'ours' or 'theirs', or remove one of each.",
                    found,
                )
            change = Change(connection, "merge", by)
            moved: dict[int, dict[str, Any]] = {number: {"set": into} for number in _members(connection, other)}
            for clash in found:
                loser = clash.theirs if on_conflict == "ours" else clash.ours
                moved.setdefault(loser.id, {})["state"] = "retired"
            change.alter(moved)
            _let_drafts_go(connection, other, into)
            change.switch(other, None)
            return change.finish()

    def drop(self, name: str, by: By) -> Version:
        """Take a set away; its edits stay, without a set. What was switched off wakes.

        Raises:
            EditError: when there is no such set.
            ConflictError: when an edit would wake that clashes with another.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            check_set(connection, name)
            change = Change(connection, "describe", by)
            change.alter({number: {"set": None} for number in _members(connection, name)})
            _let_drafts_go(connection, name, None)
            change.switch(name, None)
            made = change.finish()
            logged(connection, by, "set.drop", f"set {name}", version=made.number)
            return made


def _members(connection: Connection, name: str) -> list[int]:
    """Return the ids of the edits of a set, published or retired."""
    return list(connection.execute(select(edit.c.id).where(edit.c.set_name == name)).scalars())


def _let_drafts_go(connection: Connection, name: str, into: str | None) -> None:
    """Move the drafts of a set that goes, so that they can still be published."""
    inside = draft.c.set_name == name, draft.c.state.in_(OPEN)
    for number in connection.execute(select(draft.c.id).where(*inside)).scalars().all():
        connection.execute(update(draft).where(draft.c.id == number).values(set_name=into))
        seal_again(connection, draft, number)
