"""The versions of a store: what changed when, what makes one another, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from horen.database.audit import logged
from horen.database.changing import Change
from horen.database.connection import Database
from horen.database.found import edits_of, versions_of
from horen.database.records import By, Difference, Page, Version
from horen.database.schema import codebook, edit, edit_set, touched, version, version_tag
from horen.database.texts import check_name
from horen.errors import EditError


class Versions:
    """The versions of a store.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, before: int | None = None, limit: int = 50) -> Page[Version]:
        """Return versions, the newest first.

        Args:
            before: number of the version that they come before; None for the newest.
            limit: at most so many.

        Raises:
            StoreError: when the database cannot be read.
        """
        wanted = select(version).order_by(version.c.number.desc()).limit(limit + 1)
        if before is not None:
            wanted = wanted.where(version.c.number < before)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
            items = versions_of(connection, rows[:limit])
        return Page(items, items[-1].number if len(rows) > limit else None)

    def get(self, number: int) -> Version:
        """Return a version.

        Raises:
            EditError: when there is none of this number.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute(select(version).where(version.c.number == number)).all()
            if not rows:
                raise _no_version(number, _last(connection))
            return versions_of(connection, rows)[0]

    def number(self, name: str | int) -> int:
        """Return the number of a version by a tag's name or by that number, which may be 0, for before the first.

        Raises:
            EditError: when there is none.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            if isinstance(name, str):
                tagged = select(version_tag.c.version).where(version_tag.c.name == name)
                found = connection.execute(tagged).scalar()
                if found is not None:
                    return int(found)
            last = _last(connection)
            number = int(name) if isinstance(name, int) or (name.isascii() and name.isdigit()) else -1
            if not 0 <= number <= last:
                raise _no_version(name, last)
            return number

    def of_edit(self, number: int) -> tuple[Version, ...]:
        """Return the versions that published or changed an edit, the oldest first.

        Raises:
            EditNotFoundError: when there never was one of this id.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            found = edits_of(connection, [number])[number]
            later = select(touched.c.version).where(touched.c.edit == number)
            wanted = select(version).where((version.c.number == found.version) | version.c.number.in_(later))
            return versions_of(connection, connection.execute(wanted.order_by(version.c.number)).all())

    def active(self, number: int) -> frozenset[int]:
        """Return the ids of the edits that were active at a version.

        Raises:
            EditError: when there is none of this number.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            return _active(connection, number)

    def diff(self, before: int, after: int) -> Difference:
        """Return what makes one version another.

        Raises:
            EditError: when there is none of one of these numbers.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            old, new = _active(connection, before), _active(connection, after)
            added, removed = sorted(new - old), sorted(old - new)
            edits = edits_of(connection, [*added, *removed])
        return Difference(before, after, tuple(edits[n] for n in added), tuple(edits[n] for n in removed))

    def undo(self, by: By) -> Version:
        """Take back the last version that has not been taken back.

        Raises:
            EditError: when there is none.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            taken_back = select(version.c.undoes).where(version.c.undoes.is_not(None))
            wanted = select(func.max(version.c.number)).where(
                version.c.undoes.is_(None),
                version.c.number.not_in(taken_back),
                version.c.number > _floor(connection),
            )
            number = connection.execute(wanted).scalar()
            if number is None:
                raise EditError("There is nothing to undo: no version is left that was not taken back.")
            change = Change(connection, "undo", by)
            rows = connection.execute(select(version).where(version.c.number == number)).all()
            _back(connection, change, rows)
            return change.finish(undoes=number)

    def rollback(self, number: int, by: By) -> Version:
        """Make active what was active at a version, with the facts of then; it is a new version, so it can be undone.

        Raises:
            EditError: when there is none of this number, or nothing would change.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            last = _last(connection)
            if not 0 <= number <= last:
                raise _no_version(number, last)
            if number < _floor(connection):
                raise EditError(
                    f"Version {number} is gone, because a compaction has dropped its entries: name a later one."
                )
            change = Change(connection, "rollback", by)
            wanted = select(version).where(version.c.number > number).order_by(version.c.number.desc())
            _back(connection, change, connection.execute(wanted).all())
            return change.finish(target=number)

    def tags(self) -> dict[str, int]:
        """Return the names of versions, with their numbers.

        Raises:
            StoreError: when the database cannot be read.
        """
        wanted = select(version_tag.c.name, version_tag.c.version).order_by(version_tag.c.version, version_tag.c.name)
        with self._database.reading() as connection:
            return {name: number for name, number in connection.execute(wanted)}

    def tag(self, name: str, number: int, by: By) -> None:
        """Give a version a name; one that had it before has it no more.

        Raises:
            EditError: for a name that is a number or blank, or when there is no such version.
            StoreError: when the database cannot be written.
        """
        if check_name(name, "name of a version").isdigit():
            raise EditError(f"The name {name!r} is a number, and versions have numbers already: choose a word.")
        with self._database.writing() as connection:
            if not 0 < number <= (last := _last(connection)):
                raise _no_version(number, last)
            connection.execute(delete(version_tag).where(version_tag.c.name == name))
            connection.execute(insert(version_tag).values(name=name, version=number))
            logged(connection, by, "version.tag", f"version {number}", detail={"name": name})

    def untag(self, name: str, by: By) -> None:
        """Take a name from its version.

        Raises:
            EditError: when no version has it.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            number = connection.execute(select(version_tag.c.version).where(version_tag.c.name == name)).scalar()
            if number is None:
                raise EditError(f"No version is called {name!r}: list the tags to see their names.")
            connection.execute(delete(version_tag).where(version_tag.c.name == name))
            logged(connection, by, "version.untag", f"version {number}", detail={"name": name})


def _last(connection: Connection) -> int:
    return int(connection.execute(select(codebook.c.version)).scalar_one())


def _no_version(number: object, last: int) -> EditError:
    return EditError(f"There is no version {number}: the store has {last}; list the versions to see their numbers.")


def _floor(connection: Connection) -> int:
    """Return the number of the last compaction, before which nothing can be had again; 0 for none."""
    wanted = select(func.max(version.c.number)).where(version.c.operation == "compact")
    return connection.execute(wanted).scalar() or 0


def _active(connection: Connection, number: int) -> frozenset[int]:
    last = _last(connection)
    if not 0 <= number <= last:
        raise _no_version(number, last)
    active = set(connection.execute(select(edit.c.id).where(edit.c.active)).scalars())
    wanted = select(version.c.removed, version.c.restored, version.c.number).where(version.c.number > number)
    for removed, restored, _ in connection.execute(wanted.order_by(version.c.number.desc())):
        active |= set(removed)
        active -= set(restored)
    young = select(edit.c.id).where(edit.c.version > number)
    return frozenset(active.difference(connection.execute(young).scalars()))


def _back(connection: Connection, change: Change, rows: Sequence[Row[Any]]) -> None:
    """Change edits and sets to what they were before some versions, the newest of which comes first."""
    edits: dict[int, dict[str, Any]] = {}
    sets: dict[str, bool | None] = {}
    for row in rows:
        for number, facts in row.changes.get("edits", {}).items():
            edits.setdefault(int(number), {}).update({name: before for name, (before, _) in facts.items()})
        sets |= {name: before for name, (before, _) in row.changes.get("sets", {}).items()}
    numbers = [row.number for row in rows]
    # Of many versions these are all from one on: a range is one condition.
    born = select(edit.c.id).where(edit.c.version.between(min(numbers), max(numbers))) if numbers else None
    if born is not None:
        for number in connection.execute(born).scalars():
            edits[number] = {"state": "retired"}
    there = set(connection.execute(select(edit_set.c.name)).scalars())
    wanted = {name for facts in edits.values() if (name := facts.get("set")) is not None} | set(sets)
    for name in sorted(wanted - there):
        connection.execute(insert(edit_set).values(name=name, switched_on=True))
    change.alter(edits)
    for name, on in sets.items():
        change.switch(name, on is not False)
