"""What stores tell, as lines that people read and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from horen.cli.terminal import clean, ids_of, listed, say, short

if TYPE_CHECKING:
    from horen.database import Store
    from horen.database.records import Clash, Draft, DraftState, Page, StoredEdit, Version

_Item = TypeVar("_Item")
_PAGE = 1000


def as_dict(record: Any) -> dict[str, Any]:
    """Return a record of a store for JSON, as the service tells it too."""
    return dataclasses.asdict(record)


def pages(
    page: Callable[[int | None, int], Page[_Item]], before: int | None = None, limit: int | None = None
) -> Iterator[_Item]:
    """Yield the items of a list that is asked for in pages, the newest first.

    Args:
        page: gives one, of what comes before a number and of at most so many items.
        before: what the first item comes before.
        limit: at most so many in all; None for all there are.
    """
    left, at = limit, before
    while left is None or left > 0:
        found = page(at, _PAGE if left is None else min(left, _PAGE))
        yield from found.items
        if found.next is None:
            return
        at, left = found.next, None if left is None else left - len(found.items)


def first(
    page: Callable[[int | None, int], Page[_Item]], before: int | None, limit: int | None
) -> tuple[list[_Item], bool]:
    """Return the first items of such a list, and whether there are more; see :func:`pages`."""
    found = list(pages(page, before, None if limit is None else limit + 1))
    return found[:limit], limit is not None and len(found) > limit


def drafts_of(
    store: Store, state: DraftState | None, before: int | None = None, limit: int | None = None
) -> Iterator[Draft]:
    """Yield drafts, the newest first; see :func:`pages`."""
    return pages(lambda at, most: store.drafts.list(state, before=at, limit=most), before, limit)


def rows_of(lines: Sequence[tuple[str, str | None]]) -> Iterator[str]:
    """Yield what is known of something, a line each with its name before it; what is not said is left out."""
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        if text:
            yield f"{name:<{width}} {clean(text)}"


def when(at: str | None) -> str:
    """Return a time to the second, as tables have it."""
    return (at or "")[:19]


def note_of(edit: StoredEdit) -> str:
    """Say what is remarkable of an edit in a list."""
    notes: list[str] = [] if edit.state == "published" else [edit.state]
    if edit.state == "published" and not edit.active:
        notes.append("its set is off")
    if edit.rephrases:
        notes.append(f"{len(edit.rephrases)} rephrase{'s' * (len(edit.rephrases) > 1)}")
    if not edit.receipt.get("converged", True):
        notes.append(f"not converged ({edit.receipt['loss']:.2f})")
    return ", ".join(notes)


def what_of(version: Version) -> str:
    """Say what a version changed."""
    parts = [
        f"{word} {ids_of(numbers)}"
        for word, numbers in (("adds", version.added), ("removes", version.removed), ("restores", version.restored))
        if numbers
    ]
    if version.undoes is not None:
        parts.append(f"undoes {version.undoes}")
    if version.target is not None:
        parts.append(f"back to {version.target}")
    for name, (_, on) in version.described.get("sets", {}).items():
        parts.append(f"set {name} {'on' if on else 'off'}")
    told = {
        int(number)
        for number, facts in version.described.get("edits", {}).items()
        if facts.keys() - {"state"} and int(number) not in version.added
    }
    if told:
        parts.append(f"facts of {ids_of(sorted(told))}")
    return ", ".join(parts)


def version_line(version: Version) -> str:
    """Say in a line which version a change came to, and what it did."""
    what = what_of(version)
    return f"version {version.number} ({version.operation}{': ' + what if what else ''})"


def say_clashes(clashes: Sequence[Clash]) -> None:
    """Say both sides of every clash."""
    if clashes:
        say("These cannot both be active:")
        listed(
            [
                f"{_named(clash.ours)} answers {short(clash.wording)!r} with {short(clash.ours.target, 30)!r}, and "
                f"{_named(clash.theirs)} with {short(clash.theirs.target, 30)!r}"
                for clash in clashes
            ]
        )


def _named(side: StoredEdit | Draft) -> str:
    return f"{'draft' if is_draft(side) else 'edit'} {side.id}"


def is_draft(side: StoredEdit | Draft) -> bool:
    """Return whether one side of a clash is still a draft."""
    from horen.database.records import Draft  # noqa: PLC0415

    return isinstance(side, Draft)
