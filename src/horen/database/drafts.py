"""Drafts: edits that are proposed, trained, evaluated, and then published or rejected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from horen.database.audit import logged
from horen.database.changing import Addition, Change
from horen.database.checks import bounded, check_text
from horen.database.connection import Database
from horen.database.edits import check_set
from horen.database.found import drafted
from horen.database.records import OPEN, By, Clash, Draft, DraftState, Facts, Page, StoredEdit, Version
from horen.database.rows import Head
from horen.database.schema import draft
from horen.database.seals import check_seal, seal_again, sealed
from horen.database.texts import checked, now
from horen.database.training import rows_of
from horen.edits import Edit, EditRecord
from horen.errors import ApprovalError, ConflictError, EditError, EditNotFoundError


@dataclass(frozen=True)
class Proposal:
    """An edit as it is proposed.

    Attributes:
        prompt: see :class:`horen.edits.Edit`, as the next two.
        target: likewise.
        rephrases: likewise.
        facts: what else is said of it.
        replaces: ids of published edits that it shall retire.
        wrong: the wrong answer, where one was reported.
        publish: whether it is published as soon as it is trained.
        evaluate: whether it is evaluated as soon as it is trained.
        prompts: further ones that an evaluation asks.

    Raises:
        EditError: when a text is blank or cannot be stored.
    """

    prompt: str
    target: str
    rephrases: Sequence[str] = ()
    facts: Facts = field(default_factory=Facts)
    replaces: Sequence[int] = ()
    wrong: str | None = None
    publish: bool = False
    evaluate: bool = False
    prompts: Sequence[str] = ()

    def __post_init__(self) -> None:
        edit = Edit(self.prompt, self.target, self.rephrases)
        for name, texts in (("prompt", (edit.prompt,)), ("target", (edit.target,)), ("rephrase", edit.rephrases)):
            for text in texts:
                check_text(text, name)
        if self.wrong is not None:
            check_text(self.wrong, "wrong answer")
        object.__setattr__(self, "rephrases", tuple(edit.rephrases))
        object.__setattr__(self, "facts", checked(self.facts))


class Drafts:
    """The drafts of a store.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, number: int) -> Draft:
        """Return a draft.

        Raises:
            EditNotFoundError: when there never was one of this id.
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            return drafted(row_of(connection, number))

    def list(self, state: DraftState | None = None, *, before: int | None = None, limit: int = 50) -> Page[Draft]:
        """Return drafts, the newest first.

        Args:
            state: of all that are returned; None for any.
            before: id of the draft that they come before; None for the newest.
            limit: at most so many.

        Raises:
            StoreError: when the database cannot be read.
        """
        wanted = select(draft).order_by(draft.c.id.desc()).limit(limit + 1)
        if state is not None:
            wanted = wanted.where(draft.c.state == state)
        if before is not None:
            wanted = wanted.where(draft.c.id < bounded(before))
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return Page(tuple(map(drafted, rows[:limit])), rows[limit - 1].id if len(rows) > limit else None)

    def propose(self, proposals: Sequence[Proposal], by: By) -> tuple[Draft, ...]:
        """Make drafts, which a trainer takes up; all of them or none.

        Raises:
            EditError: when the set of one is not there.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            return tuple(proposed(connection, one, by) for one in proposals)

    def revise(
        self,
        number: int,
        by: By,
        *,
        prompt: str | None = None,
        target: str | None = None,
        rephrases: Sequence[str] | None = None,
        facts: Facts | None = None,
        replaces: Sequence[int] | None = None,
        publish: bool | None = None,
    ) -> Draft:
        """Change a draft that is not settled; where its texts change it is trained anew.

        Raises:
            EditNotFoundError: when there never was one of this id.
            EditError: when it is settled, a text cannot be stored, or the set is not there.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            row = _open(connection, number)
            was = drafted(row)
            one = Proposal(
                was.prompt if prompt is None else prompt,
                was.target if target is None else target,
                was.rephrases if rephrases is None else rephrases,
                was.facts if facts is None else facts,
                was.replaces if replaces is None else tuple(sorted(set(replaces))),
            )
            if one.facts.set is not None:
                check_set(connection, one.facts.set)
            values: dict[str, Any] = {"revised_by": by.actor, "replaces": list(one.replaces), **_columns(one.facts)}
            if publish is not None:
                values["publish"] = publish
            if (one.prompt, one.target, one.rephrases) != (was.prompt, was.target, was.rephrases):
                values |= {"prompt": one.prompt, "target": one.target, "rephrases": list(one.rephrases)}
            if "prompt" in values or was.state == "failed":
                values |= again(row)
            logged(connection, by, "draft.revise", f"draft {number}")
            return _store(connection, number, values)

    def evaluate(self, number: int, by: By, prompts: Sequence[str] = ()) -> Draft:
        """Ask for an evaluation, which a trainer makes.

        Args:
            number: id of the draft.
            by: who asks.
            prompts: frequent ones, which the draft should leave alone.

        Raises:
            EditNotFoundError: when there never was one of this id.
            EditError: when it is settled.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            row = _open(connection, number)
            values: dict[str, Any] = {"to_evaluate": {"prompts": list(prompts)}, "evaluation": None}
            if row.state != "waiting":
                values |= again(row)
            logged(connection, by, "draft.evaluate", f"draft {number}")
            return _store(connection, number, values)

    def publish(
        self,
        numbers: Iterable[int],
        by: By,
        *,
        replaces: Mapping[int, Sequence[int]] | None = None,
        four_eyes: bool = False,
    ) -> Version:
        """Publish drafts as one version, all of them or none.

        Args:
            numbers: their ids.
            by: who decides, and why.
            replaces: by the id of a draft the ids of the published edits that it retires; None for what it says itself.
            four_eyes: whether who wrote a draft, or revised it last, may not publish it.

        Raises:
            EditNotFoundError: when there never was one of these ids, or an edit to replace is not published.
            EditError: when one is not ready, or by whom may not publish it.
            ConflictError: when one clashes with an active edit that it does not replace, with both sides.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            rows = [row_of(connection, number) for number in dict.fromkeys(numbers)]
            for row in rows:
                _may_publish(row, by, four_eyes)
            change = Change(connection, "publish", by)
            added = change.publish([_addition(row, change, (replaces or {}).get(row.id)) for row in rows])
            try:
                made = change.finish()
            except ConflictError as error:
                drafts = {edit: drafted(row) for row, edit in zip(rows, added, strict=True)}
                raise ConflictError(str(error), [_of_drafts(clash, drafts) for clash in error.clashes]) from error
            for row, edit in zip(rows, added, strict=True):
                _store(connection, row.id, {"state": "published", "edit": edit, "trained": None} | _decided(by))
                logged(connection, by, "draft.publish", f"draft {row.id}", version=made.number, detail={"edit": edit})
            return made

    def reject(self, numbers: Iterable[int], by: By) -> tuple[Draft, ...]:
        """Reject drafts, all of them or none.

        Raises:
            EditNotFoundError: when there never was one of these ids.
            EditError: when one is settled already.
            StoreError: when the database cannot be written.
        """
        found = []
        with self._database.writing() as connection:
            for number in dict.fromkeys(numbers):
                _open(connection, number)
                values = {"state": "rejected", "trained": None, "to_evaluate": None} | _decided(by)
                logged(connection, by, "draft.reject", f"draft {number}")
                found.append(_store(connection, number, values))
        return tuple(found)


def proposed(connection: Connection, one: Proposal, by: By) -> Draft:
    """Make a draft, in the transaction of whatever else is done.

    Raises:
        EditError: when its set is not there.
    """
    if one.facts.set is not None:
        check_set(connection, one.facts.set)
    told = {
        "state": "waiting",
        "prompt": one.prompt,
        "target": one.target,
        "rephrases": list(one.rephrases),
        **_columns(one.facts),
        "author": by.actor,
        "reason": by.reason,
        "created": now(),
        "wrong": one.wrong,
        "replaces": sorted(set(one.replaces)),
        "publish": one.publish,
        "revision": 1,
        "done": 0,
        "total": 0,
        "receipt": {},
        "to_evaluate": {"prompts": list(one.prompts)} if one.evaluate else None,
    }
    made = connection.execute(insert(draft).values(sealed(draft, told)).returning(draft.c.id))
    number = made.scalar_one()
    logged(connection, by, "draft.propose", f"draft {number}")
    return drafted(row_of(connection, number))


def row_of(connection: Connection, number: int) -> Row[Any]:
    """Return the row of a draft.

    Raises:
        EditNotFoundError: when there never was one of this id.
    """
    row = connection.execute(select(draft).where(draft.c.id == bounded(number))).first()
    if row is None:
        raise EditNotFoundError(f"There is no draft {number}: list the drafts to see their ids.")
    return check_seal(draft, row)


def again(row: Row[Any]) -> dict[str, Any]:
    """Return what makes a draft wait for a trainer anew."""
    values = {"state": "waiting", "revision": row.revision + 1, "taken_by": None, "taken_until": None, "error": None}
    return values | {"trained": None, "base": None, "receipt": {}, "similar": None, "done": 0, "total": 0}


def _store(connection: Connection, number: int, values: Mapping[str, Any]) -> Draft:
    connection.execute(update(draft).where(draft.c.id == number).values(**values))
    seal_again(connection, draft, number)
    return drafted(row_of(connection, number))


def _of_drafts(clash: Clash, drafts: Mapping[int, Draft]) -> Clash:
    """Return a clash whose sides are drafts where they are still no edits."""

    def side(one: StoredEdit | Draft) -> StoredEdit | Draft:
        return drafts.get(one.id, one)

    return Clash(side(clash.ours), side(clash.theirs), clash.wording)


def _open(connection: Connection, number: int) -> Row[Any]:
    row = row_of(connection, number)
    if row.state not in OPEN:
        raise EditError(f"Draft {number} was {row.state} by {row.decided_by}: propose another one.")
    return row


def _may_publish(row: Row[Any], by: By, four_eyes: bool) -> None:
    if row.state != "ready":
        why = f" ({row.error})" if row.error else ""
        raise EditError(f"Draft {row.id} is {row.state}{why}, not ready: only what is trained can be published.")
    if four_eyes and by.actor in (row.author, row.revised_by):
        raise ApprovalError(
            f"Draft {row.id} was written by {by.actor}, and another has to publish it: four eyes are asked for here."
        )


def _addition(row: Row[Any], change: Change, replaces: Sequence[int] | None) -> Addition:
    facts = Facts(row.subject, row.source, tuple(row.tags), row.set_name)
    gone = tuple(row.replaces if replaces is None else sorted(set(replaces)))
    told = dict(row.receipt)
    record = EditRecord.of(
        told | {"prompt": row.prompt, "target": row.target, "rephrases": row.rephrases, "replaces": gone}
    )
    base = Head(**row.base)
    return Addition(record, base, rows_of(row.trained, change.layout), facts, By(row.author, row.reason), gone, row.id)


def _columns(facts: Facts) -> dict[str, Any]:
    return {"subject": facts.subject, "source": facts.source, "set_name": facts.set, "tags": list(facts.tags)}


def _decided(by: By) -> dict[str, Any]:
    return {"decided_by": by.actor, "decided_at": now(), "decision": by.reason}
