"""The versions of a store: what changed when, what makes one another, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select

from horen.database.audit import logged
from horen.database.changing import Change
from horen.database.checks import bounded, check_name
from horen.database.connection import Database
from horen.database.found import edits_of, versions_of
from horen.database.records import By, Difference, Page, Version
from horen.database.schema import codebook, edit, touched, version, version_tag
from horen.database.seals import check_seal
from horen.errors import ConflictError, EditError


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
            wanted = wanted.where(version.c.number < bounded(before))
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
            rows = connection.execute(select(version).where(version.c.number == bounded(number))).all()
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
            last = _last(connection)
            for number in (before, after):
                if not 0 <= number <= last:
                    raise _no_version(number, last)
            more, less = _changed(connection, *sorted((before, after)))
            added, removed = (more, less) if before <= after else (less, more)
            edits = edits_of(connection, [*added, *removed])
        return Difference(
            before, after, tuple(edits[n] for n in sorted(added)), tuple(edits[n] for n in sorted(removed))
        )

    def undo(self, by: By, number: int | None = None) -> Version:
        """Take back the last version that has not been taken back.

        Args:
            by: who does it, and why.
            number: of the version that is meant; None for whichever is the last by now.

        Raises:
            EditError: when there is none.
            ConflictError: when another version than the one that is meant is the last by now.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            taken_back = version.alias()
            wanted = (
                select(version.c.number)
                .where(
                    version.c.undoes.is_(None),
                    ~exists().where(taken_back.c.undoes == version.c.number),
                    version.c.number > _floor(connection),
                )
                .order_by(version.c.number.desc())
                .limit(1)
            )
            last = connection.execute(wanted).scalar()
            if last is None:
                raise EditError("There is nothing to undo: no version is left that was not taken back.")
            if number is not None and number != last:
                raise ConflictError(
                    f"Version {number} is not the last change that can be taken back, version {last} is: look at what "
                    "that changed, and take it back first, or go back to a version."
                )
            change = Change(connection, "undo", by)
            _back(connection, change, _rows(connection, last - 1, last))
            return change.finish(undoes=last)

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
            _back(connection, change, _rows(connection, number, last))
            return change.finish(target=number)

    def tags(self) -> dict[str, int]:
        """Return the names of versions, with their numbers.

        Raises:
            StoreError: when the database cannot be read.
        """
        wanted = select(version_tag.c.name, version_tag.c.version).order_by(version_tag.c.version, version_tag.c.name)
        with self._database.reading() as connection:
            return {row.name: row.version for row in connection.execute(wanted)}

    def tag(self, name: str, number: int, by: By) -> None:
        """Give a version a name; one that had it before has it no more.

        Raises:
            EditError: for a name that is a number or blank, or when there is no such version.
            StoreError: when the database cannot be written.
        """
        if check_name(name, "name of a version").isdigit():
            raise EditError(f"The name {name!r} is a number, and versions have numbers already: choose a word.")
        with self._database.writing() as connection:
            last = _last(connection)
            if not 0 < number <= last:
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


def _rows(connection: Connection, beyond: int, upto: int) -> list[Row[Any]]:
    """Return the rows of versions beyond one, up to another, the newest first."""
    wanted = select(version).where(version.c.number > beyond, version.c.number <= upto)
    return [check_seal(version, row) for row in connection.execute(wanted.order_by(version.c.number.desc()))]


def _born(connection: Connection, beyond: int, upto: int) -> set[int]:
    """Return the ids of the edits that were published beyond a version, up to another."""
    wanted = select(edit.c.id).where(edit.c.version > beyond, edit.c.version <= upto)
    return set(connection.execute(wanted).scalars())


def _active(connection: Connection, number: int) -> frozenset[int]:
    last = _last(connection)
    if not 0 <= number <= last:
        raise _no_version(number, last)
    active = set(connection.execute(select(edit.c.id).where(edit.c.active)).scalars())
    for row in _rows(connection, number, last):
        active |= set(row.removed)
        active -= set(row.restored)
    return frozenset(active - _born(connection, number, last))


def _changed(connection: Connection, before: int, after: int) -> tuple[set[int], set[int]]:
    """Return the ids of the edits that one version has more than an earlier one, and of those that it lacks."""
    born = _born(connection, before, after)
    was, is_now = dict.fromkeys(born, False), dict.fromkeys(born, True)
    for row in reversed(_rows(connection, before, after)):
        for numbers, on in ((row.removed, False), (row.restored, True)):
            for number in numbers:
                was.setdefault(number, not on)
                is_now[number] = on
    return {n for n, on in is_now.items() if on > was[n]}, {n for n, on in is_now.items() if on < was[n]}


def _back(connection: Connection, change: Change, rows: Sequence[Row[Any]]) -> None:
    """Change edits and sets to what they were before some versions, the newest of which comes first."""
    if not rows:
        return
    edits: dict[int, dict[str, Any]] = {}
    sets: dict[str, bool | None] = {}
    for row in rows:
        for number, facts in row.changes.get("edits", {}).items():
            edits.setdefault(int(number), {}).update({name: before for name, (before, _) in facts.items()})
        sets |= {name: before for name, (before, _) in row.changes.get("sets", {}).items()}
    # These versions follow each other.
    edits |= {number: {"state": "retired"} for number in _born(connection, rows[-1].number - 1, rows[0].number)}
    for name, on in sets.items():
        if on is not None:
            change.switch(name, on)
    change.alter(edits)
    for name, on in sets.items():
        # What was published into it since, and is retired by this, keeps it.
        if on is None and connection.execute(select(edit.c.id).where(edit.c.set_name == name).limit(1)).first() is None:
            change.switch(name, None)
