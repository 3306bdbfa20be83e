"""Retrieval as its formulas say: every product of queries and keys, in no other order than theirs.

This is all that the memory needs. Where the room :mod:`horen.memory.search` is there it gives the same answers in its
place (:mod:`horen.memory.aids`), with fewer bytes read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.keys import Keys

# Keys that are multiplied with a query at a time, so that products of many need no second copy of all.
_ROWS = 1 << 14


@dataclass(frozen=True)
class Ranking:
    """The nearest keys of B queries, the nearest first and the earlier first among equals.

    Attributes:
        similarity: [B, M] float, −inf where there are not so many.
        index: [B, M] int64.
        known: [B] int64, how many from the front are certain to be the nearest in that order, or taken for it where an
            index proposed them.
    """

    similarity: Tensor
    index: Tensor
    known: Tensor


#: Ranks keys for some rows [b] int64 of the queries.
Attempt = Callable[[Tensor], Ranking]


def readout(
    queries: Tensor, keys: Keys, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    """Return r = normalize(Kᵀ softmax(β K q)), [B, d] unit rows.

    :func:`horen.memory.hopfield.hopfield_step` has the rest.
    """
    rows = keys[:]
    products = queries @ rows.T
    if scores is not None:
        scores.copy_(products)
    if awake is not None:
        products = products.masked_fill(~awake, -torch.inf)
    return normalize(torch.softmax(beta * products, dim=-1) @ rows, dim=-1)


def ranking(queries: Tensor, keys: Keys, *, awake: Tensor | None = None) -> Ranking:
    """Rank all N ≥ 1 of [N, d] unit keys for each of [B, d] queries; sleeping ones, at −inf, come last."""
    # Row by row, not as a matrix product: equal keys must score alike wherever they are.
    similarity = queries.new_empty(len(queries), len(keys))
    for start in range(0, len(keys), _ROWS):
        part = keys[start : start + _ROWS]
        for row, query in enumerate(queries):
            similarity[row, start : start + len(part)] = (part * query).sum(-1)
    if awake is not None:
        similarity = similarity.masked_fill(~awake, -torch.inf)
    similarity, index = similarity.sort(dim=-1, descending=True, stable=True)
    return Ranking(similarity.clamp(max=1), index, torch.full_like(index[:, 0], len(keys)))


def attempts(queries: Tensor, keys: Keys, *, awake: Tensor | None = None) -> Iterator[Attempt]:
    """Yield ways to rank the keys, of which the first knows all."""
    yield lambda rows: ranking(queries[rows], keys, awake=awake)


def nearest_others(ranked: Ranking, labels: Tensor, own: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the nearest of ranked keys with another label than one's own.

    Args:
        ranked: B rankings of at least ``size`` keys.
        labels: [N] int64.
        own: [B] int64.
        size: how many, ≥ 1.

    Returns:
        Their cosines in falling order, −inf where there is none, and their numbers, both [B, size]; and [B] whether
        these are certain.
    """
    other = (labels[ranked.index] != own[:, None]) & ~ranked.similarity.isneginf()
    order = (~other).byte().sort(dim=-1, stable=True).indices[:, :size]
    nearest = ranked.similarity.masked_fill(~other, -torch.inf).gather(-1, order)
    rank = torch.arange(ranked.index.shape[-1], device=own.device)
    certain = (other & (rank < ranked.known[:, None])).sum(-1) >= size
    return nearest, ranked.index.gather(-1, order), certain | (ranked.known >= len(labels))
