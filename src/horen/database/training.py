"""Drafts as trainers see them: which to train next, and what came of it.

A trainer holds a draft for a while, and longer as long as it says so; what a trainer that was killed held is taken up
by another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as packed
from sqlalchemy import and_, or_, select, update
from torch import Tensor

from horen.database.checks import plain
from horen.database.connection import Database
from horen.database.rows import Head, Layout
from horen.database.schema import codebook, draft
from horen.database.seals import check_seal, seal_again
from horen.edits import Edit, EditRecord
from horen.errors import StoreError
from horen.store.packed import fields_of

#: For how long a draft is held without a word, in seconds.
HELD = 60.0
# What a row of a draft says itself.
_SAID = ("prompt", "target", "rephrases", "replaces")


@dataclass(frozen=True)
class Job:
    """A draft that is to be trained.

    Attributes:
        draft: its id.
        revision: of its texts: what is found for an older one is not taken.
        edit: what is to be trained.
        subject: what the fact is about; None where that was not said.
        author: who proposed it.
        reason: why.
        replaces: ids of edits that it shall retire.
        publish: whether it is published as soon as it is trained.
        evaluate: further prompts that its evaluation asks; None where none is wanted.
    """

    draft: int
    revision: int
    edit: Edit
    subject: str | None
    author: str
    reason: str
    replaces: tuple[int, ...]
    publish: bool
    evaluate: tuple[str, ...] | None


@dataclass(frozen=True)
class Found:
    """What came of training.

    Attributes:
        record: as it was trained; its numbers go on from those of ``base``.
        base: of the store that it was trained upon.
        rows: of the tables that it adds to, by name.
        replaces: ids of the edits that it has to retire.
        similar: id of an active edit that it seems to correct in other words.
        evaluation: what an evaluation found; None where none was wanted.
    """

    record: EditRecord
    base: Head
    rows: Mapping[str, Tensor]
    replaces: tuple[int, ...] = ()
    similar: int | None = None
    evaluation: Mapping[str, Any] | None = None


class Training:
    """The drafts of a store that wait for a trainer.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, worker: str, limit: int = 16) -> list[Job]:
        """Take drafts that wait, or that another trainer has held for too long.

        Args:
            worker: a name that no other trainer has.
            limit: at most so many.

        Raises:
            StoreError: when the database cannot be written.
        """
        at = time.time()
        # What is held for longer than anybody holds it is so because the clock was put back.
        forgotten = or_(draft.c.taken_until < at, draft.c.taken_until > at + 3 * HELD)
        waits = or_(draft.c.state == "waiting", and_(draft.c.state == "training", forgotten))
        with self._database.reading() as connection:
            if connection.execute(select(draft.c.id).where(waits).limit(1)).first() is None:
                return []
        with self._database.writing() as connection:
            rows = connection.execute(select(draft).where(waits).order_by(draft.c.id).limit(limit)).all()
            for row in rows:
                check_seal(draft, row)
                held = {"state": "training", "taken_by": worker, "taken_until": time.time() + HELD}
                connection.execute(update(draft).where(draft.c.id == row.id).values(done=0, total=0, **held))
                seal_again(connection, draft, row.id)
        return [
            Job(
                row.id,
                row.revision,
                Edit(row.prompt, row.target, tuple(row.rephrases)),
                row.subject,
                row.author,
                row.reason,
                tuple(row.replaces),
                row.publish,
                None if row.to_evaluate is None else tuple(row.to_evaluate["prompts"]),
            )
            for row in rows
        ]

    def hold(self, jobs: Sequence[Job], worker: str, done: int, total: int) -> None:
        """Say how far training has come, and hold the drafts for longer.

        Raises:
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            for job in jobs:
                held = {"done": done, "total": total, "taken_until": time.time() + HELD}
                if connection.execute(update(draft).where(*_held(job, worker)).values(**held)).rowcount:
                    seal_again(connection, draft, job.draft)

    def finish(self, job: Job, worker: str, found: Found) -> bool:
        """Keep what came of a draft's training; return whether it was still wanted.

        Raises:
            StoreError: when the database cannot be written.
        """
        receipt = {name: value for name, value in fields_of(found.record).items() if name not in _SAID}
        rows = {name: tensor.detach().to("cpu").contiguous() for name, tensor in found.rows.items()}
        with self._database.writing() as connection:
            layout = Layout.from_json(connection.execute(select(codebook.c.tables)).scalar_one())
            layout.check_added(found.record, found.base, rows)
            row = connection.execute(select(draft).where(*_held(job, worker))).first()
            if row is None:
                return False
            values = {
                "state": "ready",
                "base": found.base._asdict(),
                "trained": packed(rows),
                "receipt": {
                    name: list(value) if isinstance(value, tuple) else value for name, value in receipt.items()
                },
                # Which it replaces may have been said anew since it was taken.
                "replaces": sorted({*row.replaces, *found.replaces}),
                "similar": found.similar,
                "evaluation": None if found.evaluation is None else dict(found.evaluation),
                "to_evaluate": None,
                "error": None,
                "taken_by": None,
                "taken_until": None,
            }
            connection.execute(update(draft).where(draft.c.id == job.draft).values(**values))
            seal_again(connection, draft, job.draft)
            return True

    def fail(self, job: Job, worker: str, why: str) -> None:
        """Say that a draft cannot be trained, or not be published by itself.

        Raises:
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            values = {"state": "failed", "error": plain(why), "taken_by": None, "taken_until": None}
            if connection.execute(update(draft).where(*_held(job, worker)).values(**values)).rowcount:
                seal_again(connection, draft, job.draft)

    def remark(self, job: Job, why: str) -> None:
        """Say why a draft that is ready was not published by itself.

        Raises:
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            still = (draft.c.id == job.draft, draft.c.revision == job.revision, draft.c.state == "ready")
            if connection.execute(update(draft).where(*still).values(error=plain(why), publish=False)).rowcount:
                seal_again(connection, draft, job.draft)


def rows_of(trained: bytes, layout: Layout) -> dict[str, Tensor]:
    """Return the rows that a draft's training gave.

    Raises:
        StoreError: when they are damaged, or of another layout.
    """
    try:
        rows = load(trained)
    except (SafetensorError, TypeError) as error:
        raise StoreError(
            f"What was trained for a draft is damaged ({error}): revise the draft, to train it anew."
        ) from error
    for name, tensor in rows.items():
        if layout.rows.get(name) != (tensor.dtype, tuple(tensor.shape[1:])):
            raise StoreError(f"What was trained for a draft does not fit the store ({name}): revise the draft.")
    return rows


def _held(job: Job, worker: str) -> tuple[Any, ...]:
    return draft.c.id == job.draft, draft.c.revision == job.revision, draft.c.taken_by == worker
