"""Taking codebooks and files of edits into a store."""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from horen.cli.flow.applying import uninterrupted
from horen.cli.flow.checking import (
    Skipped,
    check_encodable,
    read_file,
    refuse_bad,
    sort_by_history,
)
from horen.cli.flow.likeness import replaced_by, resemblances
from horen.cli.flow.opening import model_of, open_editor
from horen.cli.flow.outcomes import Outcome
from horen.cli.flow.receipts import receipts
from horen.cli.flow.writing import Order, begun, checked_settings
from horen.cli.options import OnSimilar
from horen.cli.stores.making import is_there, snapshot_of
from horen.cli.stores.telling import pages
from horen.cli.stores.told import Told
from horen.cli.stores.workshop import Published, Workshop, receipt_of, said
from horen.cli.terminal import edit_bar, say, status
from horen.editfiles.records import BadLine, FileRecord, unit_of
from horen.editfiles.spool import chosen
from horen.editing.conflicts import Relation, relation
from horen.edits import Action, Receipt
from horen.errors import ConfigError, DataError, EditError, HorenError, StoreError

if TYPE_CHECKING:
    from horen.database import Store
    from horen.database.records import Draft, StoredEdit
    from horen.database.snapshot import Snapshot
    from horen.editor import Editor


def write_stored(order: Order, told: Told) -> Outcome:
    """Check a file of edits and write it into a store, going on where an earlier run of it stopped.

    Raises:
        HorenError: when something is wrong; batches that were published before stay.
    """
    started = time.monotonic()
    _refuse_crew(order)
    told.by  # noqa: B018 - what is wrong with it shows before the file is read
    records, skipped = read_file(order.file, order.on_conflict, skip_bad=order.skip_bad, stored=True)
    records, more = _storable(order, records, told)
    skipped = [*skipped, *more]
    outcome = _into_old(order, records, told) if is_there(order.into) else _into_new(order, records, told)
    outcome.skipped.extend(skipped)
    outcome.in_order()
    outcome.seconds = time.monotonic() - started
    return outcome


def _refuse_crew(order: Order) -> None:
    given = {"--workers": (order.workers or 1) > 1, "--ray": order.ray is not None, "--device": len(order.devices) > 1}
    for name, several in given.items():
        if several:
            raise ConfigError(
                f"{name} is for a codebook's folder: for a store one process trains. Train into a folder that is made "
                f"of it, and import that into a new store, or leave {name} out."
            )


def _storable(order: Order, records: Sequence[FileRecord], told: Told) -> tuple[Sequence[FileRecord], list[Skipped]]:
    """Find lines that no store can hold, such as one with a null character.

    Raises:
        DataError: when there are some and they are not to be skipped.
    """
    fine, bad = array("Q"), list[BadLine]()
    for number, record in enumerate(records):
        try:
            told.proposal(record)
        except EditError as error:
            bad.append(BadLine(record.line, str(error).rstrip(".")))
        else:
            fine.append(number)
    refuse_bad(order.file, bad, skip_bad=order.skip_bad)
    return chosen(records, fine), [Skipped(item.line, item.reason) for item in bad]


def _into_new(order: Order, records: Sequence[FileRecord], told: Told) -> Outcome:
    from horen.database import Store  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    editor = begun(order)
    outcome = Outcome(order.model or "", receipts(), [])
    pending = _encodable(order, records, editor, outcome)
    with tempfile.TemporaryDirectory(prefix="horen-") as folder:
        editor.save(folder)
        store = Store.create(order.into.text, Saved.read(folder), told.by)
    with store:
        _check_set(store, told)
        _write(order, told, pending, (store, snapshot_of(store), editor), outcome)
    return outcome


def _into_old(order: Order, records: Sequence[FileRecord], told: Told) -> Outcome:
    from horen.database import Store  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    with Store.open(order.into.text) as store:
        snapshot = snapshot_of(store)
        saved = Saved.read(snapshot.folder)
        name = model_of(saved, order.model)
        named = checked_settings(order, saved)
        found = sort_by_history(records, saved.history, order.on_conflict)
        outcome = Outcome(name, found.settled, [], stored=len(saved.history))
        if found.pending:
            _check_set(store, told)
            editor = open_editor(snapshot.folder, order.model, order.dtype, order.device, saved=saved, encoder=named)
            pending = _encodable(order, found.pending, editor, outcome)
            _write(order, told, pending, (store, snapshot, editor), outcome)
    return outcome


def _encodable(order: Order, records: Sequence[FileRecord], editor: Editor, outcome: Outcome) -> Sequence[FileRecord]:
    with status("Checking the edits …"):
        pending, skipped = check_encodable(order.file, records, editor, skip_bad=order.skip_bad)
    outcome.skipped.extend(skipped)
    if not pending and not outcome.receipts:
        raise DataError(f"{order.file} holds no edits that {outcome.model} can take: nothing was applied.")
    return pending


def _check_set(store: Store, told: Told) -> None:
    """Make the edit set that lines shall go into, where there is none.

    Raises:
        ConfigError: when it is switched off.
    """
    if told.set is None:
        return
    found = {one.name: one for one in store.sets.list()}
    if told.set not in found:
        store.sets.make(told.set, told.by)
        say(f"Made the edit set {told.set}.")
    elif not found[told.set].on:
        raise ConfigError(
            f"The edit set {told.set} is switched off, and what is published into it would not answer: switch it on "
            f"(horen sets … on {told.set}), or leave --edit-set out."
        )


def _write(
    order: Order,
    told: Told,
    pending: Sequence[FileRecord],
    parts: tuple[Store, Snapshot, Editor],
    outcome: Outcome,
) -> None:
    store, snapshot, editor = parts
    alike = {}
    if order.on_similar is not OnSimilar.ignore:
        alike = resemblances(order.file, pending, {receipt.id for _, receipt in outcome.receipts}, editor)
    replaced = replaced_by(order.on_similar, alike)
    workshop = Workshop(store, editor, snapshot, told.by)
    writing = _Writing(order, told, workshop, replaced, outcome)
    try:
        writing.all(pending)
    finally:
        outcome.remaining = len(pending) - writing.done
        outcome.stored = store.about().active


class _Writing:
    """Publishes lines, batch by batch, and says in an outcome what became of each."""

    def __init__(
        self, order: Order, told: Told, workshop: Workshop, replaced: Mapping[int, int], outcome: Outcome
    ) -> None:
        self._order, self._told, self._workshop = order, told, workshop
        self._replaced, self._outcome = replaced, outcome
        self._lines: dict[object, FileRecord] = {}
        self.done = 0

    def all(self, pending: Sequence[FileRecord]) -> None:
        """Publish lines; what was published before an error or Ctrl-C is in the outcome."""
        known = self._workshop.left_over()
        records = iter(pending)
        try:
            with edit_bar(len(pending)) as bar:
                while batch := list(islice(records, self._order.batch)):
                    self._publish(batch, known, bar)
        except KeyboardInterrupt:
            self._outcome.interrupted = True
            with uninterrupted(), status("Publishing what is trained …"):
                self._take(self._workshop.give_up(self._order.on_conflict, self._meant()))

    def _publish(self, batch: Sequence[FileRecord], known: Mapping[object, Draft], bar: Callable[[int], None]) -> None:
        before = self.done
        proposals = [self._told.proposal(record) for record in batch]
        self._lines = {said(one): record for one, record in zip(proposals, batch, strict=True)}
        drafts = self._workshop.train(proposals, known, lambda some: bar(before + some))
        with self._all_or_none():
            for draft in drafts:
                if draft.state in ("failed", "rejected"):
                    self._leave(draft)
            self._take(Published(drafts={draft.id: draft for draft in drafts if draft.state == "published"}))
            if ready := [draft for draft in drafts if draft.state == "ready"]:
                self._take(self._workshop.publish(ready, self._order.on_conflict, self._meant()))
        bar(self.done)

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """Reject the drafts of a batch that is refused."""
        try:
            yield
        except StoreError:
            raise  # the same command goes on with them
        except HorenError:
            self._workshop.reject(list(self._workshop.open), "another line of the same file was refused")
            raise

    def _record(self, number: int) -> FileRecord:
        return self._lines[said(self._workshop.proposed[number])]

    def _meant(self) -> dict[int, tuple[int, ...]]:
        """Return by draft what it replaces by the user's word."""
        lines = {number: self._record(number).line for number in self._workshop.open}
        return {number: (self._replaced[line],) for number, line in lines.items() if line in self._replaced}

    def _take(self, found: Published) -> None:
        """Note what was published, and what gave way."""
        store, receipts_of = self._workshop.store, self._outcome.receipts
        for number, draft in found.drafts.items():
            receipts_of.append((self._record(number), receipt_of(store, draft)))
        for number, edit in found.kept.items():
            receipts_of.append((self._record(number), _there(store.edits.get(edit), "kept")))
        self._outcome.operations += len(found.versions)
        self.done += len(found.drafts) + len(found.kept)

    def _leave(self, draft: Draft) -> None:
        """Note what became of a draft that cannot be published.

        Raises:
            DataError: when it is to blame, and is not to be skipped.
        """
        record = self._record(draft.id)
        same = _same(self._workshop.store, record)
        if same is not None:
            self._outcome.receipts.append((record, _there(same, "unchanged")))
        elif draft.state == "rejected":
            self._outcome.skipped.append(
                Skipped(record.line, f"its draft {draft.id} was rejected by {draft.decided_by}")
            )
        else:
            place = f"{unit_of(self._order.file)} {record.line}"
            if not self._order.skip_bad:
                raise DataError(
                    f"{self._order.file}, {place} cannot be trained: {draft.error} What was published before it stays; "
                    "correct the line, or skip what is bad with --skip-bad."
                )
            self._outcome.skipped.append(Skipped(record.line, (draft.error or "it cannot be trained").rstrip(".")))
        self._workshop.reject([draft.id], "stored already" if same is not None else "it cannot be trained")
        self.done += 1


def _there(edit: StoredEdit, action: Action) -> Receipt:
    told = edit.receipt
    return Receipt(edit.id, told["loss"], told["steps"], told["converged"], told["reused"], action)


def _same(store: Store, record: FileRecord) -> StoredEdit | None:
    """Return the edit that says what a line says, where somebody has published it meanwhile."""
    from horen.database import Query  # noqa: PLC0415

    query = Query(text=record.prompt, state="published")
    for edit in pages(lambda at, most: store.edits.list(query, before=at, limit=most)):
        how = relation(edit, record)
        if edit.active and how.repeats and how is not Relation.extends:
            return edit
    return None
