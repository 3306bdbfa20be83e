"""Where prompts went: the best match over each one's candidate readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from horen.memory import Match
from horen.model.prompts import Placed

Span = tuple[int, int]


@dataclass(frozen=True)
class Routed:
    """Where a prompt went: the best match over its candidate readings, and the reading that gave it."""

    place: Placed
    span: Span
    match: Match


def best(places: Sequence[Placed], matches: Sequence[Match | None]) -> list[Routed]:
    """The best match over each prompt's candidate spans; None cannot fire, and so loses to one that does.

    Args:
        places: the prompts.
        matches: of each span of each prompt, in order; empty where nothing is stored.
    """
    routed, used = [], 0
    for place in places:
        spans = place.prompt.spans
        own, used = matches[used : used + len(spans)], used + len(spans)
        candidates = [(span, match) for span, match in zip(spans, own, strict=False) if match is not None]
        if candidates:
            span, match = max(candidates, key=lambda candidate: candidate[1].score)
            routed.append(Routed(place, span, match))
    return routed
