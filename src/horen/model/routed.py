"""Where prompts went: the best match over each one's candidate readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from horen.memory import Match
from horen.model.prompts import Placed
from horen.scope.judging import Asks
from horen.scope.reader import Judged

Span = tuple[int, int]
#: Entries with what a judge thinks of each, and what the text asks beside it.
Around = tuple[tuple[int, Judged, Asks], ...]


@dataclass(frozen=True)
class Routed:
    """Where a prompt went: the best match over its candidate readings, and the reading that gave it.

    Attributes:
        place: the prompt.
        span: the reading.
        match: its match.
        query: [d_k] what was compared with the keys; None where an editor has another way to its entries.
        around: of all readings, where a judge surveyed them; else empty.
    """

    place: Placed
    span: Span
    match: Match
    query: Tensor | None = field(default=None, kw_only=True, compare=False)
    around: Around = field(default=(), kw_only=True)


def best(
    places: Sequence[Placed], matches: Sequence[Match | None], queries: Tensor, around: Sequence[Around] = ()
) -> list[Routed]:
    """Return the best match over each prompt's candidate spans; None cannot fire, and so loses to one that does.

    Args:
        places: the prompts.
        matches: of each span of each prompt, in order; empty where nothing is stored.
        queries: [Σ spans, d_k], in the same order.
        around: of each span, in the same order; empty where nothing was surveyed.
    """
    routed, used = [], 0
    for place in places:
        first, used = used, used + len(place.prompt.spans)
        candidates = [(n, match) for n, match in enumerate(matches[first:used], first) if match is not None]
        if candidates:
            n, match = max(candidates, key=lambda candidate: candidate[1].score)
            seen = tuple(item for own in around[first:used] for item in own)
            routed.append(Routed(place, place.prompt.spans[n - first], match, query=queries[n], around=seen))
    return routed
