"""A change of a store: one transaction, one version, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from torch import Tensor

from horen.database.audit import logged
from horen.database.clashes import check_clashes
from horen.database.found import parts, rows_of, version_of
from horen.database.records import By, Facts, Version
from horen.database.rows import Head, Layout, digest_of
from horen.database.schema import block, codebook, edit, edit_set, edit_tag, touched, version, wording
from horen.database.seals import check_seal, seal_of, sealed
from horen.database.texts import marks_of, now, words_of
from horen.edits import EditRecord
from horen.errors import EditError, EditNotFoundError, StoreError

#: The channel on which PostgreSQL tells of a new version.
CHANNEL = "horen"
#: Facts of an edit that change while its texts stay, with the column that each is in.
COLUMNS = {"state": "state", "set": "set_name", "subject": "subject", "source": "source", "tags": "tags"}


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
        row = self._row = check_seal(codebook, connection.execute(select(codebook)).one())
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
        StoreError: when what was trained does not fit the store.
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
        self.layout.check_added(record, base, one.rows)
        if base.entries > at.entries or base.values > at.values:
            raise StoreError(
                f"What was trained for {record.prompt!r} goes on from what the store never was: train it anew."
            )
        number = at.edits + 1
        entries = [at.entries + entry - base.entries for entry in record.entries]
        value = record.value if record.value < base.values else at.values + record.value - base.values
        moved = one.rows["value_of"].clone()
        moved[moved >= base.values] += at.values - base.values
        content = self.layout.pack({**one.rows, "value_of": moved})
        values = len(record.values) if record.value >= base.values else 0
        self._connection.execute(
            insert(block).values(
                first_entry=at.entries,
                entries=len(entries),
                first_value=at.values,
                number_of_values=values,
                content=content,
                digest=digest_of(content),
            )
        )
        self._insert(number, one, entries, value)
        self.head = Head(at.version, number, at.entries + len(entries), at.values + values)
        self._added.append(number)

    def _insert(self, number: int, one: Addition, entries: Sequence[int], value: int) -> None:
        record, facts = one.record, one.facts
        told = {
            "id": number,
            "version": self.number,
            "state": "published",
            "active": True,
            "prompt": record.prompt,
            "target": record.target,
            "rephrases": list(record.rephrases),
            "subject": facts.subject,
            "source": facts.source,
            "set_name": facts.set,
            "author": one.by.actor,
            "reason": one.by.reason,
            "created": record.created,
            "replaces": list(one.replaces),
            "draft": one.draft,
            "receipt": receipt_of(record, entries, value),
            "tags": list(facts.tags),
            "words": words_of(record.prompt, record.target, record.rephrases, facts.subject),
        }
        self._connection.execute(insert(edit).values(sealed(edit, told)))
        marks = marks_of((record.prompt, *record.rephrases))
        self._connection.execute(insert(wording), [{"mark": mark, "edit": number} for mark in marks])
        self._tag([told])

    def alter(self, wanted: Mapping[int, Mapping[str, Any]]) -> None:
        """Give edits other facts: state, set, subject, source or tags; what stays as it is counts for nothing.

        Raises:
            EditNotFoundError: when an edit is not there, or one that shall be retired is retired already.
        """
        was = rows_of(self._connection, list(wanted))
        after: list[dict[str, Any]] = []
        for number, facts in wanted.items():
            before = check_seal(edit, was[number])._mapping
            if facts.get("state") == "retired" == before["state"] and self._operation != "rollback":
                raise EditNotFoundError(
                    f"Edit {number} ({before['prompt']!r} -> {before['target']!r}) was removed, superseded or undone "
                    "already: list the edits to see which are published."
                )
            changed = {
                name: [before[COLUMNS[name]], told] for name, told in facts.items() if before[COLUMNS[name]] != told
            }
            if changed:
                self._edits.setdefault(number, {}).update(changed)
                after.append({**before, **{COLUMNS[name]: told for name, (_, told) in changed.items()}})
        if after:
            self._store_facts(after)

    def _store_facts(self, after: Sequence[dict[str, Any]]) -> None:
        """Write edits with other facts than they had."""
        names = (*COLUMNS.values(), "words", "seal")
        for told in after:
            told["words"] = words_of(told["prompt"], told["target"], told["rephrases"], told["subject"])
            told["seal"] = seal_of(edit, told)
        statement = update(edit).where(edit.c.id == bindparam("number"))
        # All in one go: a statement for each would take most of the time that a large change takes.
        self._connection.execute(
            statement.values({name: bindparam(f"new_{name}") for name in names}),
            [{"number": told["id"], **{f"new_{name}": told[name] for name in names}} for told in after],
        )
        for some in parts([told["id"] for told in after]):
            self._connection.execute(delete(edit_tag).where(edit_tag.c.edit.in_(some)))
        self._tag(after)

    def _tag(self, edits: Iterable[Mapping[str, Any]]) -> None:
        rows = [
            {"tag": tag, "edit": told["id"], "published": told["state"] == "published"}
            for told in edits
            for tag in told["tags"]
        ]
        if rows:
            self._connection.execute(insert(edit_tag), rows)

    def switch(self, name: str, on: bool | None) -> None:
        """Switch a set on or off, make it where it is not there, or with None take it away."""
        here = edit_set.c.name == name
        was = self._connection.execute(select(edit_set.c.switched_on).where(here)).scalar()
        if was == on:
            return
        if on is None:
            self._connection.execute(delete(edit_set).where(here))
        elif was is None:
            self._connection.execute(insert(edit_set).values(name=name, switched_on=on))
        else:
            self._connection.execute(update(edit_set).where(here).values(switched_on=on))
        first = self._sets.get(name, (was,))[0]
        self._sets[name] = [first, on]

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
        told = {
            "number": self.number,
            "operation": self._operation,
            "at": at,
            "actor": self._by.actor,
            "reason": self._by.reason,
            "removed": gone,
            "restored": back,
            "dropped": [],
            "changes": {
                **({"edits": {str(number): facts for number, facts in self._edits.items()}} if self._edits else {}),
                **({"sets": self._sets} if self._sets else {}),
            },
            "undoes": undoes,
            "target": target,
        }
        execute(insert(version).values(sealed(version, told)))
        also = sorted({*self._edits, *gone, *back} - set(self._added))
        for some in parts(also):
            execute(insert(touched), [{"edit": number, "version": self.number} for number in some])
        head = self.head
        counts = {"edits": head.edits, "entries": head.entries, "number_of_values": head.values}
        counts["version"] = self.number
        execute(update(codebook).values(**counts, seal=seal_of(codebook, {**self._row._mapping, **counts})))
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
