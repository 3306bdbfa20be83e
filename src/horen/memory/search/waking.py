"""Which queries wake an entry, told for most of them without a Hopfield step, which needs all keys as they are."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from horen.memory.gate import Gate
from horen.memory.matching import Match, Stand, match, matches, surely
from horen.memory.search import sketch as copy
from horen.memory.search.blocks import FEW
from horen.memory.search.foresight import foresee, look_around
from horen.memory.search.sketch import SketchedKeys


def waking(
    stand: Stand, queries: Tensor, gate: Gate, *, above: float | None, prompts: Tensor | None
) -> list[Match | None] | None:
    """Return what :func:`horen.memory.matching.waking` gives; None where a match of all queries is as fast.

    Most prompts come near to no entry, which a look at the copy of the keys shows: the Hopfield steps are taken for the
    others alone. With ``prompts`` most queries that wake an entry need no step either
    (:mod:`horen.memory.search.foresight`).
    """
    if not gate.steps or not gate.alpha or len(stand.keys) < copy.FROM or not stand.count or not len(queries):
        return None
    found: list[Match | None] = [None] * len(queries)
    sketch, index = stand.aids()
    asked = gate if above is None else replace(gate, threshold=above)
    foreseen = gate.steps == 1 and index is None and len(queries) <= FEW
    if prompts is None or not foreseen or not isinstance(sketch, SketchedKeys):
        unsure = asked.in_reach(surely(stand, queries, 1, (sketch, index)).similarity[:, 0])
    else:
        look = look_around(queries, stand.keys, gate, sketch, awake=stand.awake)
        unsure = asked.in_reach(look.highest)
        (near,) = torch.where(unsure)
        if len(near):
            seen = foresee(look.of(near), stand.value_of, gate)
            settled = seen.settled(stand.value_of, prompts[near])
            told = zip(near.tolist(), matches(stand, seen.found, seen.score, gate), settled.tolist(), strict=True)
            for row, one, sure in told:
                found[row] = one if sure else None
            unsure[near[settled]] = False
    (rest,) = torch.where(unsure)
    for row, one in zip(rest.tolist(), match(stand, queries[rest], gate), strict=True):
        found[row] = one
    return found
