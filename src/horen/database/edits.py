"""The published edits of a store: looking for them, removing them, and saying more about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Select, func, select

from horen.database.changing import Change
from horen.database.checks import bounded, check_name, check_text
from horen.database.connection import Database
from horen.database.found import edits_of, stored
from horen.database.records import By, Page, Query, StoredEdit, Version
from horen.database.schema import edit, edit_set, edit_tag
from horen.database.texts import SOURCE
from horen.errors import EditError


class Keep(Enum):
    """What is left as it is."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True)
class Facets:
    """By what edits can be looked for, and how many published ones each finds.

    Attributes:
        tags: by tag.
        authors: by author.
        sets: by set.
    """

    tags: dict[str, int]
    authors: dict[str, int]
    sets: dict[str, int]


class Edits:
    """The published edits of a store.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, number: int) -> StoredEdit:
        """Return an edit, published or retired.

        Raises:
            EditNotFoundError: when there never was one of this id.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            return edits_of(connection, [number])[number]

    def list(self, query: Query | None = None, *, before: int | None = None, limit: int = 50) -> Page[StoredEdit]:
        """Return edits, the newest first.

        Args:
            query: which; None for all.
            before: id of the edit that they come before; None for the newest.
            limit: at most so many.

        Raises:
            EditError: for a text that no edit can have.
            StoreError: when the database cannot be read.
        """
        wanted = where(select(edit), query or Query()).order_by(edit.c.id.desc()).limit(limit + 1)
        if before is not None:
            wanted = wanted.where(edit.c.id < bounded(before))
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
            items = stored(connection, rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def count(self, query: Query | None = None) -> int:
        """Return how many edits a query finds.

        Raises:
            EditError: for a text that no edit can have.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            return int(connection.execute(where(select(func.count(edit.c.id)), query or Query())).scalar_one())

    def ids(
        self,
        *,
        tags: Iterable[str] = (),
        without_tags: Iterable[str] = (),
        sets: Iterable[str] = (),
        without_sets: Iterable[str] = (),
    ) -> frozenset[int]:
        """Return the ids of active edits.

        Args:
            tags: of which each has one; none for any.
            without_tags: of which none has one.
            sets: in one of which each is; none for any.
            without_sets: in none of which one is.

        Raises:
            EditError: for a name that no tag or set can have.
            StoreError: when the database cannot be read.
        """
        tags, without_tags, sets, without_sets = map(list, (tags, without_tags, sets, without_sets))
        for name in (*tags, *without_tags, *sets, *without_sets):
            check_text(name, "name that is looked for")
        wanted = select(edit.c.id).where(edit.c.active)
        for some, found in ((tags, True), (without_tags, False)):
            if some:
                tagged = edit.c.id.in_(select(edit_tag.c.edit).where(edit_tag.c.tag.in_(some)))
                wanted = wanted.where(tagged if found else ~tagged)
        if sets:
            wanted = wanted.where(edit.c.set_name.in_(sets))
        if without_sets:
            wanted = wanted.where(edit.c.set_name.is_(None) | edit.c.set_name.not_in(without_sets))
        with self._database.reading() as connection:
            return frozenset(connection.execute(wanted).scalars())

    def facets(self) -> Facets:
        """Return by which tags, authors and sets published edits can be looked for.

        Raises:
            StoreError: when the database cannot be read.
        """
        published = edit.c.state == "published"
        tagged = select(edit_tag.c.tag, func.count()).where(edit_tag.c.published)
        with self._database.reading() as connection:
            tags = connection.execute(tagged.group_by(edit_tag.c.tag).order_by(edit_tag.c.tag)).all()
            columns = (edit.c.author, edit.c.set_name)
            authors, sets = (
                connection.execute(
                    select(column, func.count()).where(published, column.is_not(None)).group_by(column).order_by(column)
                ).all()
                for column in columns
            )
        return Facets(*(dict(rows) for rows in (tags, authors, sets)))

    def remove(self, numbers: Iterable[int], by: By) -> Version:
        """Retire edits, all of them or none.

        Raises:
            EditNotFoundError: when one of them is not published.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            change = Change(connection, "remove", by)
            change.alter({number: {"state": "retired"} for number in numbers})
            return change.finish()

    def describe(
        self,
        numbers: Sequence[int],
        by: By,
        *,
        subject: str | Keep | None = KEEP,
        source: str | Keep | None = KEEP,
        tags: Iterable[str] | Keep = KEEP,
        set: str | Keep | None = KEEP,  # noqa: A002 - the field's name
    ) -> Version:
        """Say something else about edits; what is not given stays as it is.

        Raises:
            EditNotFoundError: when one of them was never there.
            EditError: for a text that cannot be stored, a set that is not there, or when nothing would change.
            ConflictError: when an edit would wake that clashes with another.
            StoreError: when the database cannot be written.
        """
        facts: dict[str, Any] = {
            name: text if text is None else check_name(text, name, *([SOURCE] if name == "source" else []))
            for name, text in (("subject", subject), ("source", source), ("set", set))
            if not isinstance(text, Keep)
        }
        if not isinstance(tags, Keep):
            facts["tags"] = sorted({check_name(tag, "tag") for tag in tags})
        with self._database.writing() as connection:
            if facts.get("set") is not None:
                check_set(connection, facts["set"])
            change = Change(connection, "describe", by)
            change.alter(dict.fromkeys(numbers, facts))
            return change.finish()


def check_set(connection: Connection, name: str) -> None:
    """Raise EditError when there is no set of a name."""
    if connection.execute(select(edit_set.c.name).where(edit_set.c.name == name)).first() is None:
        raise EditError(f"There is no set {name!r}: make it first, or leave it out.")


def where(wanted: Select[Any], query: Query) -> Select[Any]:
    """Return a statement with a query's conditions.

    Raises:
        EditError: for a text that no edit can have.
    """
    for name in ("text", "tag", "set", "author", "subject"):
        check_text(getattr(query, name) or "", f"{name} that is looked for")
    if query.state is not None:
        wanted = wanted.where(edit.c.state == query.state)
    if query.set is not None:
        wanted = wanted.where(edit.c.set_name == query.set)
    if query.author is not None:
        wanted = wanted.where(edit.c.author == query.author)
    if query.subject is not None:
        wanted = wanted.where(edit.c.subject == query.subject)
    if query.tag is not None:
        wanted = wanted.where(edit.c.id.in_(select(edit_tag.c.edit).where(edit_tag.c.tag == query.tag)))
    for word in (query.text or "").casefold().split():
        wanted = wanted.where(edit.c.words.contains(word, autoescape=True))
    return wanted
