"""Edits that cannot both be active: found by their wordings, judged as the editor judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from horen.database.found import edits_of, parts
from horen.database.records import Clash, StoredEdit
from horen.database.schema import edit, wording
from horen.editing.conflicts import Relation, relation, wordings
from horen.errors import ConflictError


def check_clashes(connection: Connection, woken: Sequence[int]) -> None:
    """Raise ConflictError, with both sides, where edits that have come clash with what else is active.

    Args:
        connection: that sees them as active.
        woken: their ids.
    """
    found = clashes_of(connection, woken)
    if found:
        first = found[0]
        ours, theirs = first.ours, first.theirs
        same = ours.target == theirs.target
        raise ConflictError(
            f"Edit {ours.id} answers {first.wording!r} with {ours.target!r}"
            + (", and so does " if same else f", and {theirs.target!r} is what is wanted by ")
            + f"the other ({theirs.prompt!r}): replace edit {ours.id}, or leave the other out"
            + (f"; {len(found) - 1} more clash likewise." if len(found) > 1 else "."),
            found,
        )


def clashes_of(connection: Connection, woken: Sequence[int]) -> list[Clash]:
    """Return with what else is active each of some active edits clashes: the same wording and another target."""
    mine = _marks(connection, woken)
    # Simple questions that an index answers: of a join of all this a database may find no good way.
    others: dict[int, set[int]] = {}
    for some in parts(sorted(mine)):
        for mark, number in connection.execute(select(wording.c.mark, wording.c.edit).where(wording.c.mark.in_(some))):
            others.setdefault(mark, set()).add(number)
    pairs = {(new, old) for mark, numbers in mine.items() for new in numbers for old in others[mark] if old != new}
    active: set[int] = set()
    for some in parts(sorted({old for _, old in pairs})):
        active |= set(connection.execute(select(edit.c.id).where(edit.c.id.in_(some), edit.c.active)).scalars())
    known = set(woken)
    told = sorted(
        {(min(new, old), max(new, old)) if old in known else (old, new) for new, old in pairs if old in active}
    )
    edits = edits_of(connection, sorted({number for pair in told for number in pair}))
    return [clash for old, new in told if (clash := _clash(edits, old, new)) is not None]


def _marks(connection: Connection, numbers: Sequence[int]) -> dict[int, set[int]]:
    """Return the marks of edits' wordings, each with the edits that have it."""
    found: dict[int, set[int]] = {}
    for some in parts(sorted(numbers)):
        for mark, number in connection.execute(select(wording.c.mark, wording.c.edit).where(wording.c.edit.in_(some))):
            found.setdefault(mark, set()).add(number)
    return found


def _clash(edits: Mapping[int, StoredEdit], old: int, new: int) -> Clash | None:
    ours, theirs = edits[old], edits[new]
    # What repeats another edit cannot stay beside it either.
    if relation(ours, theirs) in {Relation.apart, Relation.agrees}:
        return None
    said = set(wordings(ours))
    return Clash(ours, theirs, next(text for text in wordings(theirs) if text in said))


def between(connection: Connection, into: str, other: str) -> list[Clash]:
    """Return which published edits of two sets clash, whether they are active or not; ours are of the first."""
    published = edit.c.state == "published"
    mine, theirs = (
        _marks(
            connection, connection.execute(select(edit.c.id).where(edit.c.set_name == name, published)).scalars().all()
        )
        for name in (into, other)
    )
    pairs = sorted({(a, b) for mark in mine.keys() & theirs.keys() for a in mine[mark] for b in theirs[mark]})
    edits = edits_of(connection, sorted({number for pair in pairs for number in pair}))
    return [clash for a, b in pairs if (clash := _clash(edits, a, b)) is not None]
