"""Training drafts in this process, on the folder of the user's cache that follows the store, and publishing them."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from horen.cli.options import OnConflict
from horen.cli.stores.telling import drafts_of, is_draft
from horen.editing.conflicts import Relation, relation
from horen.edits import Receipt
from horen.errors import ConflictError, EditNotFoundError, HorenError

if TYPE_CHECKING:
    from horen.database import By, Proposal, Store
    from horen.database.records import Draft, DraftState, Version
    from horen.database.snapshot import Snapshot
    from horen.editor import Editor
    from horen.edits import Action

_OPEN: tuple[DraftState, ...] = ("waiting", "training", "ready")
# How long a trainer elsewhere is waited for before the drafts are looked at again, in seconds.
_LOOK = 0.25
# Others may publish meanwhile; who is thwarted so often leaves it to the user.
_TRIES = 20


@dataclass
class Published:
    """What came of drafts.

    Attributes:
        versions: that were made.
        drafts: that were published, by id.
        kept: by the id of a draft that gave way the id of the edit that stays.
    """

    versions: list[Version] = field(default_factory=list)
    drafts: dict[int, Draft] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)


class Workshop:
    """Trains drafts and publishes them. A trainer elsewhere may take some of them; that is as good.

    Args:
        store: whose drafts.
        editor: loaded from the snapshot's folder.
        snapshot: of the store.
        by: who does it, and why.
    """

    def __init__(self, store: Store, editor: Editor, snapshot: Snapshot, by: By) -> None:
        from horen.serve.training.trainer import Trainer  # noqa: PLC0415

        self.store, self.editor, self.by = store, editor, by
        name = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
        self._trainer = Trainer(store, editor, snapshot, name)
        #: What was proposed last, by the number of its draft.
        self.proposed: dict[int, Proposal] = {}
        #: Drafts of those that are neither published nor rejected yet.
        self.open: list[int] = []

    def left_over(self) -> dict[object, Draft]:
        """Return drafts that an earlier run has left, as when it was killed, by what they say."""
        return {
            said(draft): draft
            for state in _OPEN
            for draft in drafts_of(self.store, state)
            if draft.author == self.by.actor
        }

    def train(
        self, proposals: Sequence[Proposal], known: Mapping[object, Draft], done: Callable[[int], None]
    ) -> list[Draft]:
        """Propose drafts, and return them once they are trained, or cannot be.

        Args:
            proposals: what to propose.
            known: drafts that are there already, see :meth:`left_over`.
            done: told how many are trained.

        Raises:
            StoreError: when the store cannot be read or written.
        """
        there = {said(one): known[said(one)] for one in proposals if said(one) in known}
        # Whoever held these may be gone, and would be waited for.
        held = [what for what, draft in there.items() if draft.state == "training"]
        self.reject([there.pop(what).id for what in held], "trained anew")
        new = [one for one in proposals if said(one) not in there]
        made = iter(self.store.drafts.propose(new, self.by) if new else ())
        numbers = [there[said(one)].id if said(one) in there else next(made).id for one in proposals]
        self.proposed = dict(zip(numbers, proposals, strict=True))
        return self.wait(numbers, done)

    def wait(self, numbers: Sequence[int], done: Callable[[int], None]) -> list[Draft]:
        """Return drafts once they are trained, or cannot be; see :meth:`train`."""
        self.open = list(numbers)
        settled: dict[int, Draft] = {}
        while True:
            for number in numbers:
                if number not in settled:
                    draft = self.store.drafts.get(number)
                    if draft.state not in ("waiting", "training"):
                        settled[number] = draft
            done(len(settled))
            if len(settled) == len(numbers):
                return [settled[number] for number in numbers]
            if not self._trainer.step():
                time.sleep(_LOOK)

    def publish(
        self, drafts: Sequence[Draft], on_conflict: OnConflict, replaced: Mapping[int, Iterable[int]]
    ) -> Published:
        """Publish drafts as one version.

        Args:
            drafts: that are ready.
            on_conflict: what to do about edits that others have published meanwhile.
            replaced: by the id of a draft ids of edits that it replaces by the user's word.

        Raises:
            ConflictError: when one contradicts an edit, and ``on_conflict`` is error.
            HorenError: when the store refuses them.
        """
        found = Published()
        wanted = {draft.id: sorted({*draft.replaces, *replaced.get(draft.id, ())}) for draft in drafts}
        meant = {number: set(some) for number, some in replaced.items()}
        for _ in range(_TRIES):
            self._settle(drafts, wanted, meant, on_conflict, found)
            if not wanted:
                break
            try:
                version = self.store.drafts.publish(list(wanted), self.by, replaces=wanted)
            except EditNotFoundError:
                continue  # one that was to be replaced has gone meanwhile
            except ConflictError as error:
                if not error.clashes or on_conflict is OnConflict.error:
                    raise
                before = dict(wanted)
                for clash in error.clashes:
                    if is_draft(clash.theirs) and not is_draft(clash.ours):
                        number = clash.theirs.id
                        wanted[number] = sorted({*wanted[number], clash.ours.id})
                if wanted == before:
                    raise
                continue
            found.versions.append(version)
            found.drafts = {number: self.store.drafts.get(number) for number in wanted}
            break
        else:
            raise ConflictError(
                "Others change the very edits that these replace, again and again: nothing of them was published. Run "
                "the same command again."
            )
        self.open = [number for number in self.open if number not in found.drafts]
        self.reject([number for number in found.kept if number in self.open], "gives way to what is stored")
        return found

    def _settle(
        self,
        drafts: Sequence[Draft],
        wanted: dict[int, list[int]],
        meant: Mapping[int, set[int]],
        on_conflict: OnConflict,
        found: Published,
    ) -> None:
        """Let drafts replace what is published alone, and none that the user did not give up."""
        for draft in drafts:
            for number in wanted.get(draft.id, ()):
                stored = self.store.edits.get(number)
                if stored.state == "retired":
                    wanted[draft.id] = [other for other in wanted[draft.id] if other != number]
                elif number in meant.get(draft.id, ()) or on_conflict is OnConflict.supersede:
                    continue
                elif relation(stored, draft) is Relation.contradicts:
                    if on_conflict is OnConflict.keep:
                        found.kept[draft.id] = number
                        continue
                    raise ConflictError(
                        f"Edit {number} answers {stored.prompt!r} with {stored.target!r} since somebody published it "
                        f"meanwhile, not {draft.target!r}: replace it with --on-conflict supersede, or leave it with "
                        "--on-conflict keep."
                    )
        for number in found.kept:
            wanted.pop(number, None)

    def reject(self, numbers: Sequence[int], why: str) -> None:
        """Reject drafts that are open.

        Raises:
            StoreError: when the store cannot be written.
        """
        from horen.database import By  # noqa: PLC0415

        for number in numbers:
            if self.store.drafts.get(number).state in (*_OPEN, "failed"):
                self.store.drafts.reject([number], By(self.by.actor, why))
        gone = set(numbers)
        self.open = [number for number in self.open if number not in gone]

    def give_up(self, on_conflict: OnConflict, replaced: Mapping[int, Iterable[int]]) -> Published:
        """Publish what is trained of the open drafts, and reject the others.

        Raises:
            StoreError: when the store cannot be read or written.
        """
        drafts = [self.store.drafts.get(number) for number in self.open]
        found = Published(drafts={draft.id: draft for draft in drafts if draft.state == "published"})
        try:
            ready = [draft for draft in drafts if draft.state == "ready"]
            last = self.publish(ready, on_conflict, replaced) if ready else Published()
        except HorenError:
            last = Published()  # they are trained again by the same command
        self.reject([draft.id for draft in drafts if draft.state != "published"], "interrupted")
        return Published(last.versions, found.drafts | last.drafts, last.kept)


def said(one: Draft | Proposal) -> object:
    """Return what a draft says, for comparison."""
    return one.prompt, one.target, tuple(one.rephrases), one.facts


def receipt_of(store: Store, draft: Draft) -> Receipt:
    """Return what became of a draft that was published."""
    assert draft.edit is not None  # noqa: S101 - it was published
    edit = store.edits.get(draft.edit)
    told, action = edit.receipt, "superseded" if edit.replaces else "added"
    return Receipt(
        edit.id,
        told["loss"],
        told["steps"],
        told["converged"],
        told["reused"],
        cast("Action", action),
        edit.replaces,
        draft.similar,
    )
