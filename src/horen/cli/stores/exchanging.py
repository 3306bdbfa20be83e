"""Taking a plain folder, which `horen export` has written of a store, into another store or back into its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from horen.cli.flow.applying import uninterrupted
from horen.cli.flow.opening import open_editor
from horen.cli.options import OnConflict, Place
from horen.cli.stores.making import is_there, snapshot_of
from horen.cli.stores.telling import as_dict, say_clashes, version_line
from horen.cli.stores.told import Told
from horen.cli.stores.workshop import Published, Workshop
from horen.cli.terminal import clean, counted, edit_bar, emit, interrupted, say, show, status
from horen.errors import ConfigError, ConflictError, HorenError

if TYPE_CHECKING:
    from horen.database import Store
    from horen.database.exchange import Taken
    from horen.database.records import Draft
    from horen.database.sets import OnClash

# Whose edit stays, as a store calls it.
_STAYS = {OnConflict.error: "error", OnConflict.keep: "ours", OnConflict.supersede: "theirs"}


def is_export(folder: Path) -> bool:
    """Return whether a folder is one that was exported of a store."""
    from horen.database.plain import STORE  # noqa: PLC0415

    return (folder / STORE).is_file()


@dataclass(frozen=True)
class Wish:
    """How a plain folder is taken in.

    Attributes:
        folder: it.
        place: of the store.
        on_conflict: what to do about edits that contradict each other.
        told: who does it, and why.
        loading: model, type, device and text encoder for lines that are to be trained.
    """

    folder: Path
    place: Place
    on_conflict: OnConflict
    told: Told
    loading: tuple[str | None, str, str | None, str | None]


@dataclass
class _Found:
    """What came of it.

    Attributes:
        taken: from the folder.
        trained: what became of the lines that somebody has written by hand.
        failed: those of them that cannot be trained.
        interrupted: whether Ctrl-C ended their training.
    """

    taken: Taken
    trained: Published
    failed: Sequence[Draft] = ()
    interrupted: bool = False


def take_export(wish: Wish, *, as_json: bool) -> None:
    """Take a plain folder into a store: trained edits as they are, lines written by hand once they are trained.

    Raises:
        ConfigError: when there is no store yet.
        ConflictError: when edits contradict each other, and no way out was chosen; both sides are said before.
        HorenError: when the folder cannot be read or does not fit the store.
    """
    from horen.database import Store  # noqa: PLC0415
    from horen.database.exchange import take_from  # noqa: PLC0415

    if not is_there(wish.place):
        raise ConfigError(
            f"There is no store {wish.place} yet, and {wish.folder} goes into one that is there: make it of the "
            f"codebook that the edits are from (horen import DIR --into {wish.place}), or with horen edit and --model."
        )
    with Store.open(wish.place.text) as store:
        stays = cast("OnClash", _STAYS[wish.on_conflict])
        try:
            taken = take_from(store, wish.folder, wish.told.by, on_conflict=stays)
        except ConflictError as error:
            say_clashes(error.clashes)
            raise ConflictError(
                f"{wish.folder} contradicts {wish.place}, so nothing was applied. Replace what is stored with "
                "--on-conflict supersede, or leave it with --on-conflict keep.",
                error.clashes,
            ) from error
        found = _trained(store, wish, taken)
    _tell(wish, found, as_json=as_json)
    if found.interrupted:
        raise interrupted("Interrupted: what is published stays. The same command again continues.")


def _trained(store: Store, wish: Wish, taken: Taken) -> _Found:
    """Train the lines without rows and publish them."""
    from horen.database import By  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    found = _Found(taken, Published())
    if not taken.drafts:
        return found
    model, dtype, device, encoder = wish.loading
    try:
        snapshot = snapshot_of(store)
        editor = open_editor(snapshot.folder, model, dtype, device, saved=Saved.read(snapshot.folder), encoder=encoder)
    except (HorenError, KeyboardInterrupt):
        # Whoever runs the same command again proposes them again.
        with uninterrupted():
            store.drafts.reject([draft.id for draft in taken.drafts], By(wish.told.by.actor, "given up"))
        raise
    workshop = Workshop(store, editor, snapshot, wish.told.by)
    meant = {draft.id: draft.replaces for draft in taken.drafts}
    try:
        with edit_bar(len(taken.drafts)) as bar:
            drafts = workshop.wait([draft.id for draft in taken.drafts], bar)
        found.failed = [draft for draft in drafts if draft.state == "failed"]
        if ready := [draft for draft in drafts if draft.state == "ready"]:
            found.trained = workshop.publish(ready, wish.on_conflict, meant)
    except KeyboardInterrupt:
        found.interrupted = True
        with uninterrupted(), status("Publishing what is trained …"):
            found.trained = workshop.give_up(wish.on_conflict, meant)
    return found


def _tell(wish: Wish, found: _Found, *, as_json: bool) -> None:
    taken, trained = found.taken, found.trained
    versions = [*([] if taken.version is None else [taken.version]), *trained.versions]
    published = sum(len(version.added) for version in versions)
    counts = {
        "published": published,
        "trained": len(trained.drafts),
        "unchanged": taken.unchanged,
        "kept": taken.left_out + len(trained.kept),
        "asleep": taken.asleep,
        "failed": len(found.failed),
    }
    if as_json:
        emit(
            {
                "folder": str(wish.folder),
                "into": str(wish.place),
                "interrupted": found.interrupted,
                "counts": counts,
                "versions": [as_dict(version) for version in versions],
                "failed": [as_dict(draft) for draft in found.failed],
            }
        )
        return
    words = {
        "published": "new",
        "trained": "of them from lines without rows, which were trained",
        "unchanged": "stored already",
        "kept": "left out, because a stored edit answers otherwise",
        "asleep": "left out, because they do not answer where they are from",
    }
    for name, meaning in words.items():
        if counts[name] or name == "published":
            show(f"{counts[name]:>6}  {meaning}")
    for version in versions:
        show(f"{wish.place} is at {version_line(version)}.")
    if found.failed:
        say(f"{counted(len(found.failed), 'line')} cannot be trained; revise or reject {_drafts(found.failed)}:")
        for draft in found.failed:
            say(f"  draft {draft.id}: {clean(draft.prompt)} -> {clean(draft.target)}: {draft.error}")


def _drafts(failed: Sequence[Draft]) -> str:
    return "the draft" if len(failed) == 1 else "the drafts"
