"""Edits that cannot both be active: found by their wordings, judged as the editor judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, and_, select

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
    pairs = set[tuple[int, int]]()
    mine, other = wording.alias(), wording.alias()
    for some in parts(woken):
        wanted = (
            select(mine.c.edit, other.c.edit)
            .select_from(mine.join(other, and_(mine.c.mark == other.c.mark, mine.c.edit != other.c.edit)))
            .join(edit, and_(edit.c.id == other.c.edit, edit.c.active))
            .where(mine.c.edit.in_(some))
        )
        pairs |= {(new, old) for new, old in connection.execute(wanted)}
    known = set(woken)
    told = sorted({tuple(sorted(pair)) if pair[1] in known else (pair[1], pair[0]) for pair in pairs})
    edits = edits_of(connection, sorted({number for pair in told for number in pair}))
    return [clash for old, new in told if (clash := _clash(edits, old, new)) is not None]


def _clash(edits: Mapping[int, StoredEdit], old: int, new: int) -> Clash | None:
    ours, theirs = edits[old], edits[new]
    # What repeats another edit cannot stay beside it either.
    if relation(ours, theirs) in {Relation.apart, Relation.agrees}:
        return None
    said = set(wordings(ours))
    return Clash(ours, theirs, next(text for text in wordings(theirs) if text in said))


def between(connection: Connection, into: str, other: str) -> list[Clash]:
    """Return which published edits of two sets clash, whether they are active or not; ours are of the first."""
    mine, theirs = wording.alias(), wording.alias()
    first, second = edit.alias(), edit.alias()
    wanted = (
        select(first.c.id, second.c.id)
        .select_from(mine.join(theirs, mine.c.mark == theirs.c.mark))
        .join(first, and_(first.c.id == mine.c.edit, first.c.set_name == into, first.c.state == "published"))
        .join(second, and_(second.c.id == theirs.c.edit, second.c.set_name == other, second.c.state == "published"))
        .distinct()
    )
    pairs = [(a, b) for a, b in connection.execute(wanted.order_by(first.c.id, second.c.id))]
    edits = edits_of(connection, sorted({number for pair in pairs for number in pair}))
    return [clash for a, b in pairs if (clash := _clash(edits, a, b)) is not None]
