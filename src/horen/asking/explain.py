"""Why an edit fires or does not: where texts are routed, and what lies around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from horen.asking.generate import encode
from horen.edits import Explanation, Near
from horen.errors import EditError
from horen.memory import STEPPED, Surroundings
from horen.model.prompts import Placed
from horen.model.routed import Routed
from horen.model.scoped import CANDIDATES, ScopedGate
from horen.session import Session, wording

_BATCH = 32
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Seen:
    """Where a row of token ids was routed, and the query [d_k] that decided it."""

    routed: Routed
    query: Tensor


@dataclass(frozen=True)
class Given:
    """Rows of token ids as they are looked up: their prompts, and the features of all readings of these."""

    places: list[Placed]
    features: Tensor | None


def explain(
    session: Session, texts: Sequence[str], *, chat: bool, nearest: int, above: float | None = None
) -> list[Explanation]:
    """Where each text is routed; see :meth:`horen.Editor.explain`.

    With ``above`` texts that score no more may be explained as if nothing were stored, which is less work.
    """
    check_nearest(nearest)
    rows = [encode(session, text, chat=chat, room=0) for text in texts]
    explanations = []
    for start in range(0, len(rows), _BATCH):
        batch, given = texts[start : start + _BATCH], read(session, rows[start : start + _BATCH])

        def look(batch: Sequence[str] = batch, given: Given = given) -> list[Explanation]:
            seen, count = look_up(session, given, above=above), entries_of(session, nearest)
            return [_explained(session, *pair, count, nearest) for pair in zip(batch, seen, strict=True)]

        explanations += settled(session, look)
    return explanations


def _explained(session: Session, text: str, seen: Seen | None, count: int, nearest: int) -> Explanation:
    around = surroundings(session, seen, count) if seen is not None and count else None
    return explanation(session, text, seen, around, nearest)


def settled(session: Session, look: Callable[[], _Found]) -> _Found:
    """What is found in one state of what is stored; see :meth:`horen.memory.Codebook.settled`."""
    return session.codebook().settled(look) if len(session.history) else look()


def check_nearest(nearest: int) -> None:
    """Raise EditError for a number of nearest edits that makes no sense."""
    if not isinstance(nearest, int) or nearest < 0:
        raise EditError(f"nearest={nearest!r} is not valid: say how many of the nearest edits to show, 0 or more.")


def route(session: Session, rows: Sequence[Sequence[int]], *, above: float | None = None) -> list[Seen | None]:
    """Where rows of token ids are routed, as one batch; None for each while nothing is stored.

    With ``above`` also None for some that score no more.
    """
    return look_up(session, read(session, rows), above=above)


def read(session: Session, rows: Sequence[Sequence[int]]) -> Given:
    """What is looked up for rows of token ids; the model runs here alone."""
    # The last prompt is the one that an answer would follow.
    places = [Placed(i, 0, tuple(row), session.reader.read(row, len(row))) for i, row in enumerate(rows)]
    adapter = session.adapter
    stored = len(session.history)
    return Given(places, adapter.features(rows, [place.prompt.spans for place in places]) if stored else None)


def look_up(session: Session, given: Given, *, above: float | None = None) -> list[Seen | None]:
    """See :func:`route`."""
    places, features, adapter = given.places, given.features, session.adapter
    if features is None or not len(session.history):
        return [None] * len(places)
    firsts = list(accumulate((len(place.prompt.spans) for place in places[:-1]), initial=0))
    seen: list[Seen | None] = [None] * len(places)
    for routed in adapter.nearest(places, features, above=above):
        row = routed.place.row
        reading = firsts[row] + routed.place.prompt.spans.index(routed.span)
        seen[row] = Seen(routed, session.key_space(features[reading]))
    return seen


def entries_of(session: Session, nearest: int) -> int:
    """How many of the nearest entries hold one of each of the ``nearest`` edits."""
    if not nearest:
        return 0
    # An edit has an entry for each of its wordings: the first n · m entries are of n edits at least.
    return nearest * max((len(record.entries) for record in session.history.active()), default=0)


def surroundings(session: Session, seen: Seen, count: int) -> Surroundings:
    """The ``count`` entries nearest to a query, as the settings have it."""
    judges = session.config.judges
    # A judge may take one that is not the nearest: all that it looked at are there.
    count = max(count, CANDIDATES) if judges else count
    among = STEPPED if judges else None
    return session.codebook().surroundings(seen.query, count, session.config.retrieval(), among=among)


def explanation(
    session: Session, text: str, seen: Seen | None, around: Surroundings | None, nearest: int
) -> Explanation:
    """What is told of a text, with the nearest edits where their surroundings are known."""
    threshold, margin = session.config.threshold, session.config.margin
    record = session.history.holder(seen.routed.match.entry) if seen is not None else None
    if seen is None or record is None:
        return Explanation(text, None, None, None, None, None, None, None, threshold, margin, False, None, None)
    routed, match = seen.routed, seen.routed.match
    runner = session.history.holder(match.runner_up) if match.runner_up is not None else None
    return Explanation(
        text=text,
        words=session.reader.text(routed.place.ids, routed.span),
        edit_id=record.id,
        prompt=wording(record, match.entry),
        target=record.target,
        similarity=match.similarity,
        raw_similarity=match.raw_similarity,
        score=match.score,
        threshold=threshold,
        margin=margin,
        fired=match.fired,
        runner_up=None if runner is None else runner.id,
        runner_up_similarity=None if runner is None else match.runner_up_similarity,
        nearest=() if around is None else _nearest(session, seen, around, nearest),
        asks=match.asks,
    )


def _nearest(session: Session, seen: Seen, around: Surroundings, count: int) -> tuple[Near, ...]:
    entries = around.entries.tolist()
    columns = around.similarities.T.tolist(), around.crowds.tolist(), around.scores.tolist()
    winner = seen.routed.match.entry
    found: dict[int, tuple[int, Near]] = {}
    # Of entries that tie the gate may have taken another one: the one it took comes first.
    for place in sorted(range(len(entries)), key=lambda i: entries[i] != winner):
        record = session.history.holder(entries[place])
        if record is None or record.id in found:
            continue
        similarities, crowd, score = (column[place] for column in columns)
        told = wording(record, entries[place])
        found[record.id] = entries[place], Near(record.id, told, record.target, tuple(similarities), crowd, score)
    scoped = session.adapter.scoped
    if scoped is None:
        return tuple(near for _, near in list(found.values())[:count])
    return _judged(session, scoped, seen, list(found.values()), count)


def _judged(
    session: Session, scoped: ScopedGate, seen: Seen, kept: Sequence[tuple[int, Near]], count: int
) -> tuple[Near, ...]:
    """The same with what a judge says of each, the likeliest first."""
    owner = session.history.holder(seen.routed.match.entry)
    taken = None if owner is None else owner.id
    products = session.codebook().keys[[entry for entry, _ in kept]] * seen.query
    halves = torch.stack([half.sum(-1) for half in products.tensor_split(2, dim=-1)], dim=-1)
    words = session.reader.text(seen.routed.place.ids, seen.routed.span)
    told = scoped.judged([near.prompt for _, near in kept], words, halves)
    judged = [
        replace(near, score=one.score, crowd=0.0, asks=scoped.asks(one))
        for (_, near), one in zip(kept, told, strict=True)
    ]
    # The gate judges fewer than may be told here: what it took comes first.
    return tuple(sorted(judged, key=lambda near: (near.edit_id != taken, -near.score)))[:count]
