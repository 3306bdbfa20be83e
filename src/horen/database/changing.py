"""A change of a store: one transaction, one version, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from torch import Tensor

from horen.database.audit import logged
from horen.database.clashes import check_clashes
from horen.database.found import edits_of, parts, version_of
from horen.database.records import By, Facts, Version
from horen.database.rows import Layout, digest_of
from horen.database.schema import block, codebook, edit, edit_set, edit_tag, touched, version, wording
from horen.database.texts import marks_of, now, words_of
from horen.edits import EditRecord
from horen.errors import EditError, EditNotFoundError

#: The channel on which PostgreSQL tells of a new version.
CHANNEL = "horen"
#: Facts of an edit that change while its texts stay, with the column that each is in; tags are in a table of their own.
COLUMNS = {"state": "state", "set": "set_name", "subject": "subject", "source": "source"}


class Head(NamedTuple):
    """How far the numbers of a store have come."""

    version: int
    edits: int
    entries: int
    values: int


@dataclass(frozen=True)
class Addition:
    """An edit that is published.

    Attributes:
        record: as it was trained; its numbers go on from those of ``base``.
        base: of the store that it was trained upon.
        rows: of the tables that it adds to, by name.
        facts: what a person said of it.
        by: who proposed it, and why.
        replaces: ids of edits that are retired for it.
        draft: id of the draft that it was; None where it was none.
    """

    record: EditRecord
    base: Head
    rows: Mapping[str, Tensor]
    facts: Facts
    by: By
    replaces: tuple[int, ...] = ()
    draft: int | None = None


class Change:
    """What one version changes, in a writing transaction; nothing counts before :meth:`finish`.

    Args:
        connection: that writes.
        operation: what the version is called.
        by: who does it, and why.
    """

    def __init__(self, connection: Connection, operation: str, by: By) -> None:
        self._connection, self._operation, self._by = connection, operation, by
        row = connection.execute(select(codebook)).one()
        self.head = Head(row.version, row.edits, row.entries, row.number_of_values)
        self.layout, self._store = Layout.from_json(row.tables), row.store
        self.number = self.head.version + 1
        self._added: list[int] = []
        self._edits: dict[int, dict[str, list[Any]]] = {}
        self._sets: dict[str, list[bool | None]] = {}
        self._flipped: tuple[list[int], list[int]] = ([], [])

    def publish(self, additions: Sequence[Addition]) -> list[int]:
        """Add edits, and retire those that they replace; return their ids.

        Raises:
            EditError: when the set of one is switched off, or there is none of that name.
            EditNotFoundError: when one that is to be replaced is not published any more.
        """
        self._check_sets({one.facts.set for one in additions} - {None})
        for one in additions:
            self._publish(one)
        self.alter({number: {"state": "retired"} for one in additions for number in one.replaces})
        return self._added

    def _check_sets(self, names: Iterable[str | None]) -> None:
        for name in names:
            on = self._connection.execute(select(edit_set.c.switched_on).where(edit_set.c.name == name)).scalar()
            if on is None:
                raise EditError(f"There is no set {name!r}: make it first, or leave it out.")
            if not on:
                raise EditError(f"The set {name!r} is switched off: switch it on, or publish without a set.")

    def _publish(self, one: Addition) -> None:
        at, base, record = self.head, one.base, one.record
        number = at.edits + 1
        entries = [at.entries + entry - base.entries for entry in record.entries]
        value = record.value if record.value < base.values else at.values + record.value - base.values
        moved = one.rows["value_of"].clone()
        moved[moved >= base.values] += at.values - base.values
        content = self.layout.pack({**one.rows, "value_of": moved})
        self._connection.execute(
            insert(block).values(
                first_entry=at.entries,
                entries=len(entries),
                first_value=at.values,
                number_of_values=len(one.rows["values"]) if "values" in one.rows else 0,
                content=content,
                digest=digest_of(content),
            )
        )
        values = len(one.rows["values"]) if "values" in one.rows else 0
        self._insert(number, one, entries, value)
        self.head = Head(at.version, number, at.entries + len(entries), at.values + values)
        self._added.append(number)

    def _insert(self, number: int, one: Addition, entries: Sequence[int], value: int) -> None:
        record, facts = one.record, one.facts
        self._connection.execute(
            insert(edit).values(
                id=number,
                version=self.number,
                state="published",
                active=True,
                prompt=record.prompt,
                target=record.target,
                rephrases=list(record.rephrases),
                subject=facts.subject,
                source=facts.source,
                set_name=facts.set,
                author=one.by.actor,
                reason=one.by.reason,
                created=record.created,
                replaces=list(one.replaces),
                draft=one.draft,
                receipt=receipt_of(record, entries, value),
                words=words_of(record.prompt, record.target, record.rephrases, facts.subject),
            )
        )
        marks = marks_of((record.prompt, *record.rephrases))
        self._connection.execute(insert(wording), [{"mark": mark, "edit": number} for mark in marks])
        if facts.tags:
            self._connection.execute(insert(edit_tag), [{"tag": tag, "edit": number} for tag in facts.tags])

    def alter(self, wanted: Mapping[int, Mapping[str, Any]]) -> None:
        """Give edits other facts: state, set, subject, source or tags; what stays as it is counts for nothing.

        Raises:
            EditNotFoundError: when an edit is not there, or one that shall be retired is retired already.
        """
        was = edits_of(self._connection, list(wanted))
        for number, facts in wanted.items():
            before = was[number]
            held: dict[str, Any] = {
                "state": before.state,
                "set": before.facts.set,
                "subject": before.facts.subject,
                "source": before.facts.source,
                "tags": list(before.facts.tags),
            }
            if facts.get("state") == "retired" == before.state and self._operation != "rollback":
                raise EditNotFoundError(
                    f"Edit {number} ({before.prompt!r} -> {before.target!r}) was removed, superseded or undone "
                    "already: list the edits to see which are published."
                )
            changed = {name: [held[name], after] for name, after in facts.items() if held[name] != after}
            if changed:
                self._edits.setdefault(number, {}).update(changed)
                self._store_facts(number, {name: after for name, (_, after) in changed.items()})
                if "subject" in changed:
                    words = words_of(before.prompt, before.target, before.rephrases, changed["subject"][1])
                    self._connection.execute(update(edit).where(edit.c.id == number).values(words=words))

    def _store_facts(self, number: int, facts: Mapping[str, Any]) -> None:
        columns = {COLUMNS[name]: after for name, after in facts.items() if name in COLUMNS}
        if columns:
            self._connection.execute(update(edit).where(edit.c.id == number).values(**columns))
        if "tags" in facts:
            self._connection.execute(delete(edit_tag).where(edit_tag.c.edit == number))
            if facts["tags"]:
                self._connection.execute(insert(edit_tag), [{"tag": tag, "edit": number} for tag in facts["tags"]])

    def switch(self, name: str, on: bool) -> None:
        """Switch a set on or off.

        Raises:
            EditError: when there is none of that name.
        """
        was = self._connection.execute(select(edit_set.c.switched_on).where(edit_set.c.name == name)).scalar()
        if was is None:
            raise EditError(f"There is no set {name!r}: list the sets to see their names.")
        if was != on:
            self._sets[name] = [was, on]
            self._connection.execute(update(edit_set).where(edit_set.c.name == name).values(switched_on=on))

    def finish(self, *, undoes: int | None = None, target: int | None = None) -> Version:
        """Make it so, and return the version that it is.

        Raises:
            EditError: when nothing would change.
            ConflictError: when two edits would be active that have a wording in common and other targets.
        """
        self._settle()
        gone, back = self._flipped
        if not (self._added or self._edits or self._sets or gone or back):
            raise EditError("Nothing would change: the store is like that already.")
        check_clashes(self._connection, [*back, *self._added])
        execute, at = self._connection.execute, now()
        execute(
            insert(version).values(
                number=self.number,
                operation=self._operation,
                at=at,
                actor=self._by.actor,
                reason=self._by.reason,
                removed=gone,
                restored=back,
                dropped=[],
                changes={
                    **({"edits": {str(number): facts for number, facts in self._edits.items()}} if self._edits else {}),
                    **({"sets": self._sets} if self._sets else {}),
                },
                undoes=undoes,
                target=target,
            )
        )
        also = sorted({*self._edits, *gone, *back} - set(self._added))
        for some in parts(also):
            execute(insert(touched), [{"edit": number, "version": self.number} for number in some])
        head = self.head
        execute(
            update(codebook).values(
                version=self.number, edits=head.edits, entries=head.entries, number_of_values=head.values
            )
        )
        logged(self._connection, self._by, f"store.{self._operation}", self._object(also), version=self.number)
        if self._connection.dialect.name == "postgresql":
            self._connection.exec_driver_sql(
                "SELECT pg_notify(%(channel)s, %(told)s)",
                {"channel": CHANNEL, "told": f"{self._store} {self.number}"},
            )
        return version_of(self._connection, self.number)

    def _settle(self) -> None:
        """Put edits to sleep, or wake them, whose state, set or set's switch asks for it."""
        on = edit_set.c.switched_on
        wanted = select(edit.c.id, edit.c.state, edit.c.active, on).select_from(
            edit.outerjoin(edit_set, edit.c.set_name == edit_set.c.name)
        )
        rows = [
            row
            for some in parts(list(self._edits))
            for row in self._connection.execute(wanted.where(edit.c.id.in_(some)))
        ]
        for name in self._sets:
            rows += self._connection.execute(wanted.where(edit.c.set_name == name, edit.c.state == "published"))
        shall = {row.id: row.state == "published" and row.switched_on is not False for row in rows}
        flipped = sorted({row.id for row in rows if row.active != shall[row.id]} - set(self._added))
        self._flipped = [n for n in flipped if not shall[n]], [n for n in flipped if shall[n]]
        if flipped:
            self._connection.execute(
                update(edit).where(edit.c.id == bindparam("number")).values(active=bindparam("now")),
                [{"number": number, "now": shall[number]} for number in flipped],
            )

    def _object(self, also: Sequence[int]) -> str:
        numbers = [*self._added, *also]
        names = [f"set {name}" for name in self._sets]
        few = [f"edit {number}" for number in numbers[:10]] + ([f"{len(numbers) - 10} more"] * (len(numbers) > 10))
        return ", ".join([*few, *names])


def receipt_of(record: EditRecord, entries: Sequence[int], value: int) -> dict[str, Any]:
    """Return what a store keeps of an edit's training, and where its rows are."""
    return {
        "loss": record.loss,
        "steps": record.steps,
        "converged": record.converged,
        "reused": record.reused,
        "entries": list(entries),
        "value": value,
        "left": list(record.left),
    }
