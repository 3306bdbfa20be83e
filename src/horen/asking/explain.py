"""Why an edit fires or does not: where texts are routed, and what lies around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from horen.asking.generate import encode
from horen.asking.routes import Tell, Telling, looked_up
from horen.edits import Answer, Explanation, Near
from horen.errors import EditError
from horen.memory import STEPPED, Surroundings
from horen.model.routed import Routed
from horen.model.scoped import CANDIDATES, ScopedGate
from horen.session import Session, wording

#: How many of the nearest edits are told of, unless somebody says otherwise.
NEAREST = 5


def explain(
    session: Session, texts: Sequence[str], *, chat: bool, nearest: int, above: float | None = None
) -> list[Explanation]:
    """Explain where each text is routed; see :meth:`horen.Editor.explain`, but nothing is recalled.

    With ``above`` texts that score no more may be explained as if nothing were stored, which is less work.
    """
    rows = [encode(session, text, chat=chat, room=0) for text in texts]
    found = looked_up(session, rows, explaining(session, texts, nearest), least=above)
    return [unrouted(session, text) if one is None else one for text, one in zip(texts, found, strict=True)]


def explaining(session: Session, texts: Sequence[str], nearest: int) -> Tell[Explanation]:
    """Return what tells why texts wake an edit or do not, by their numbers, with so many of the nearest edits.

    Raises:
        EditError: for a number of edits that makes no sense.
    """
    check_nearest(nearest)

    def tell(routed: Mapping[int, Routed]) -> dict[int, Explanation]:
        count = entries_of(session, nearest)
        found = {}
        for number, one in routed.items():
            around = surroundings(session, one, count) if count else None
            found[number] = explanation(session, texts[number], one, around, nearest)
        return found

    return tell


class Routes:
    """The routes of texts that the model answers, as they are taken.

    Args:
        session: whose model answers.
        texts: what is asked.
    """

    @classmethod
    def wanted(cls, session: Session, texts: Sequence[str], wanted: bool) -> Routes | None:
        """Return the routes where they are wanted, else None.

        Raises:
            EditError: when that is neither said nor denied.
        """
        if not isinstance(wanted, bool):
            raise EditError(
                f"return_routes={wanted!r} is not valid: say True to get a route with each answer, or False."
            )
        return cls(session, texts) if wanted else None

    def __init__(self, session: Session, texts: Sequence[str]) -> None:
        self._session, self._texts = session, texts
        #: Tells of a text by its number.
        self.tell = explaining(session, texts, NEAREST)
        #: What was told, by number.
        self.found: dict[int, Explanation] = {}

    @contextmanager
    def watching(self, numbers: Sequence[int]) -> Iterator[None]:
        """Note the routes of some texts, which are rows of the one call of the model's ``generate`` in the block."""
        telling = Telling(self._session, numbers, self.tell, least=None, surveys=False)
        with self._session.adapter.watched(telling):
            yield
        self.found |= telling.found

    def tell_of_others(self, routed: Mapping[int, Routed]) -> Mapping[int, Explanation]:
        """Tell of texts that wake no edit; those that do are answered by it, and their routes are noted then."""
        return self.tell({number: one for number, one in routed.items() if not one.match.fired})

    def answers(self, said: Sequence[str]) -> list[Answer]:
        """Return answers to all texts, with their routes."""
        return [
            Answer(answer, self.found.get(number) or unrouted(self._session, self._texts[number]))
            for number, answer in enumerate(said)
        ]


def check_nearest(nearest: int) -> None:
    """Raise EditError for a number of nearest edits that makes no sense."""
    if not isinstance(nearest, int) or nearest < 0:
        raise EditError(f"nearest={nearest!r} is not valid: say how many of the nearest edits to show, 0 or more.")


def unrouted(session: Session, text: str) -> Explanation:
    """Return what is told of a text that was compared with nothing."""
    threshold, margin = session.config.threshold, session.config.margin
    return Explanation(text, None, None, None, None, None, None, None, threshold, margin, False, None, None)


def entries_of(session: Session, nearest: int) -> int:
    """Return how many of the nearest entries hold one of each of the ``nearest`` edits."""
    if not nearest:
        return 0
    # An edit has an entry for each of its wordings: the first n · m entries are of n edits at least.
    return nearest * max((len(record.entries) for record in session.history.active()), default=0)


def surroundings(session: Session, routed: Routed, count: int) -> Surroundings:
    """Return the ``count`` entries nearest to a query, as the settings have it."""
    judges = session.config.judges
    # A judge may take one that is not the nearest: all that it looked at are there.
    count = max(count, CANDIDATES) if judges else count
    among = STEPPED if judges else None
    return session.codebook().surroundings(_query(routed), count, session.config.retrieval(), among=among)


def _query(routed: Routed) -> Tensor:
    assert routed.query is not None  # noqa: S101 - what a codebook is asked with
    return routed.query


def explanation(session: Session, text: str, routed: Routed, around: Surroundings | None, nearest: int) -> Explanation:
    """Return what is told of a text, with the nearest edits where their surroundings are known."""
    match, record = routed.match, session.history.holder(routed.match.entry)
    if record is None:
        return unrouted(session, text)
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
        threshold=session.config.threshold,
        margin=session.config.margin,
        fired=match.fired,
        runner_up=None if runner is None else runner.id,
        runner_up_similarity=None if runner is None else match.runner_up_similarity,
        nearest=() if around is None else _nearest(session, routed, around, nearest),
        asks=match.asks,
    )


def _nearest(session: Session, routed: Routed, around: Surroundings, count: int) -> tuple[Near, ...]:
    entries = around.entries.tolist()
    columns = around.similarities.T.tolist(), around.crowds.tolist(), around.scores.tolist()
    winner = routed.match.entry
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
    return _judged(session, scoped, routed, list(found.values()), count)


def _judged(
    session: Session, scoped: ScopedGate, routed: Routed, kept: Sequence[tuple[int, Near]], count: int
) -> tuple[Near, ...]:
    """Return the same with what a judge says of each, the likeliest first."""
    owner = session.history.holder(routed.match.entry)
    taken = None if owner is None else owner.id
    products = session.codebook().read_keys([entry for entry, _ in kept]) * _query(routed)
    halves = torch.stack([half.sum(-1) for half in products.tensor_split(2, dim=-1)], dim=-1)
    words = session.reader.text(routed.place.ids, routed.span)
    told = scoped.judged([near.prompt for _, near in kept], words, halves)
    judged = [
        replace(near, score=one.score, crowd=0.0, asks=scoped.asks(one))
        for (_, near), one in zip(kept, told, strict=True)
    ]
    # The gate judges fewer than may be told here: what it took comes first.
    return tuple(sorted(judged, key=lambda near: (near.edit_id != taken, -near.score)))[:count]
