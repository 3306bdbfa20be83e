"""Giving the prompt of a store's edit another answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from horen.cli.flow.applying import uninterrupted
from horen.cli.flow.opening import open_editor
from horen.cli.options import OnConflict, Place
from horen.cli.stores.making import snapshot_of
from horen.cli.stores.opening import opened
from horen.cli.stores.told import Told
from horen.cli.stores.workshop import Workshop, receipt_of
from horen.cli.terminal import status
from horen.edits import Receipt, same_text
from horen.errors import EditError, EditNotFoundError, HorenError, StoreError

if TYPE_CHECKING:
    from horen.database.records import StoredEdit


def supersede_stored(
    place: Place,
    number: int,
    target: str,
    rephrases: Sequence[str],
    told: Told,
    loading: tuple[str | None, str, str | None, str | None],
) -> tuple[StoredEdit, Receipt]:
    """Return an edit of a store that another one has replaced, and what became of that.

    Args:
        place: of the store.
        number: of the edit.
        target: the new answer.
        rephrases: its rephrases; none for those of the old one.
        told: who does it and why, and perhaps where the answer is from.
        loading: model, type, device and text encoder.

    Raises:
        EditNotFoundError: when no such edit is published.
        EditError: when it answers that already, or cannot be trained.
    """
    from horen.database import Proposal  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    model, dtype, device, encoder = loading
    with opened(place) as store:
        old, by = store.edits.get(number), told.by
        if old.state == "retired":
            raise EditNotFoundError(f"Edit {number} was removed, superseded or undone: list the edits, or undo that.")
        if same_text(old.target) == same_text(target):
            raise EditError(f"Edit {number} already answers {old.prompt!r} with {old.target!r}: give another target.")
        facts = replace(old.facts, source=told.source or old.facts.source)
        proposal = Proposal(old.prompt, target, rephrases or old.rephrases, facts, replaces=(number,))
        snapshot = snapshot_of(store)
        editor = open_editor(snapshot.folder, model, dtype, device, saved=Saved.read(snapshot.folder), encoder=encoder)
        workshop = Workshop(store, editor, snapshot, by)
        try:
            with status("Editing …"):
                (draft,) = workshop.train([proposal], workshop.left_over(), lambda _: None)
                if draft.state != "ready":
                    raise EditError(f"It cannot be trained: {draft.error or draft.state} Nothing was changed.")
                found = workshop.publish([draft], OnConflict.error, {draft.id: (number,)})
        except (KeyboardInterrupt, HorenError):
            with uninterrupted(), suppress(StoreError):
                workshop.reject(list(workshop.open), "given up")
            raise
        return old, receipt_of(store, found.drafts[draft.id])
