"""A trainer: takes drafts that wait, and gives back what their training came to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from horen.database.records import By
from horen.database.rows import Head
from horen.database.snapshot import Snapshot
from horen.database.store import Store
from horen.database.training import HELD, Found, Job
from horen.editing.conflicts import relation
from horen.editor import Editor
from horen.edits import Edit, Receipt
from horen.errors import HorenError, StoreError
from horen.serve.training.evaluation import Evaluation

_log = logging.getLogger(__name__)


class Trainer:
    """Trains drafts on a model of its own. What it writes there counts for nothing: the store alone says what is.

    Args:
        store: whose drafts.
        editor: loaded from the snapshot's folder; nobody else may use it.
        snapshot: of the store.
        name: unlike that of any other trainer.
        four_eyes: whether no draft is published by itself, because another than its author has to.
    """

    def __init__(self, store: Store, editor: Editor, snapshot: Snapshot, name: str, *, four_eyes: bool = False) -> None:
        self._store, self._editor, self._snapshot, self._name = store, editor, snapshot, name
        self._four_eyes = four_eyes
        self._at = editor.operation_count
        self._dirty = False

    def step(self) -> int:
        """Take drafts that wait, train them, and return how many were taken.

        Raises:
            StoreError: when the store cannot be read or written; what was taken is taken up again later.
        """
        jobs = self._store.training.take(self._name)
        for some in _together(jobs):
            self._train(some)
        return len(jobs)

    def _train(self, jobs: Sequence[Job]) -> None:
        """Train drafts that have no wording in common; where one cannot be, the others are trained without it."""
        try:
            with self._held(jobs):
                self._catch_up()
                self._write(jobs)
        except StoreError:
            raise
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._train([job])
                return
            if not isinstance(error, HorenError):
                _log.exception("Draft %d cannot be trained", jobs[0].draft)
            self._store.training.fail(jobs[0], self._name, str(error) or type(error).__name__)
        finally:
            self._dirty = True

    def _catch_up(self) -> None:
        at = self._snapshot.follow()
        if self._dirty or at != self._at:
            self._editor.restore(self._snapshot.folder)
            self._at, self._dirty = at, False

    @contextmanager
    def _held(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Keep drafts from being taken by another trainer for as long as the block lasts."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(HELD / 4):
                try:
                    self._store.training.hold(jobs, self._name, 0, len(jobs))
                except StoreError as error:
                    _log.warning("%s", error)

        keeper = threading.Thread(target=hold, name="horen-hold", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def _write(self, jobs: Sequence[Job]) -> None:
        evaluation = Evaluation(self._editor, self._store, jobs[0]) if jobs[0].evaluate is not None else None
        session = self._editor._session
        codebook = session.codebook()
        base = Head(session.history.count, session.history.next_id - 1, codebook.entries, len(codebook.values))
        self._dirty = True
        receipts = self._editor.edit(
            [job.edit for job in jobs],
            "supersede",
            on_similar="warn",
            progress=lambda done, total: self._store.training.hold(jobs, self._name, done, total),
        )
        for job, receipt in zip(jobs, receipts, strict=True):
            if receipt.action == "unchanged":
                self._store.training.fail(job, self._name, _same(job.edit, receipt))
                continue
            found = self._found(receipt, base)
            if evaluation is not None:
                found = replace(found, evaluation=evaluation.found(receipt.id))
            if self._store.training.finish(job, self._name, found) and job.publish:
                self._publish(job)

    def _found(self, receipt: Receipt, base: Head) -> Found:
        """Return what an edit has added, as if it had been the only one."""
        session = self._editor._session
        record, state = session.history.get(receipt.id), session.state()
        assert state.keys is not None  # noqa: S101 - an editor has them
        entries = list(record.entries)
        # A value that another draft of the same batch has brought is no stored one yet: this draft has its own copy.
        own = list(record.values) if record.value >= base.values else []
        rows = {
            "keys": state.keys[entries],
            "value_of": torch.full((len(entries),), base.values if own else record.value, dtype=state.value_of.dtype),
            "values": state.values.numbers[own],
        }
        if state.values.scales.shape[1]:
            rows["value_scales"] = state.values.scales[own]
        numbered = replace(
            record,
            id=base.edits + 1,
            entries=tuple(range(base.entries, base.entries + len(entries))),
            value=base.values if own else record.value,
        )
        gone = tuple(number for number in record.replaces if number <= base.edits)
        return Found(numbered, base, rows, gone, receipt.resembles)

    def _publish(self, job: Job) -> None:
        try:
            self._store.drafts.publish([job.draft], By(job.author, job.reason), four_eyes=self._four_eyes)
        except HorenError as error:
            self._store.training.remark(job, str(error))


def _together(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield drafts in groups that one list of edits can hold; what is to be evaluated is trained alone."""
    group: list[Job] = []
    for job in jobs:
        alone = job.evaluate is not None
        if group and (alone or any(relation(other.edit, job.edit).name != "apart" for other in group)):
            yield group
            group = []
        group.append(job)
        if alone:
            yield group
            group = []
    if group:
        yield group


def _same(edit: Edit, receipt: Receipt) -> str:
    return f"Edit {receipt.id} answers {edit.prompt!r} with {edit.target!r} already: there is nothing to publish."
