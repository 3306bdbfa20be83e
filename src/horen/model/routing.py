"""Finding where prompts go: the one way to it, of forward calls and of look-ups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from horen.memory import Codebook, Gate, Match
from horen.model.calls import Watch
from horen.model.prompts import Placed, PromptReader
from horen.model.routed import Routed, best
from horen.model.scoped import ScopedGate


def routed(
    places: Sequence[Placed],
    codebook: Codebook,
    queries: Tensor,
    *,
    gate: Gate | ScopedGate,
    reader: PromptReader,
    watch: Watch | None,
) -> list[Routed]:
    """Return where prompts go.

    Args:
        places: the prompts.
        codebook: what is stored.
        queries: [Σ candidate spans, d_k], in the order of the prompts' spans.
        gate: what decides.
        reader: tells the words of spans.
        watch: who is told; None where only what fires matters.

    Returns:
        All prompts that fire. A watch is told of the others too, as far as it asks; without one, scores may be a
        little off, which is less work.
    """
    if isinstance(gate, ScopedGate):
        texts = [reader.text(place.ids, span) for place in places for span in place.prompt.spans]
        if watch is None or not watch.surveys:
            above = gate.threshold if watch is None else watch.least
            return best(places, gate.matches(codebook, queries, texts, above=above), queries)
        surveys = gate.surveyed(codebook, queries, texts)
        return best(places, [one.match for one in surveys], queries, [one.around for one in surveys])
    matches: Sequence[Match | None]
    if watch is None:
        readings = torch.tensor([len(place.prompt.spans) for place in places], device=queries.device)
        prompts = torch.arange(len(places), device=queries.device).repeat_interleave(readings)
        matches = codebook.waking(queries, gate, prompts=prompts)
    elif watch.least is not None:
        matches = codebook.waking(queries, gate, above=watch.least)
    else:
        matches = codebook.match(queries, gate)
    return best(places, matches, queries)
