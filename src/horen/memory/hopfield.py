"""Retrieval on the unit hypersphere as damped modern Hopfield dynamics: pure functions of tensors.

Equations: arXiv 2605.08143 (normalized Hopfield retrieval) and Ramsauer et al. 2021 (modern Hopfield networks).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.aids import Proposals, SmallCopy, attempts, readout, table
from horen.memory.keys import Keys
from horen.memory.plain import nearest_others


@dataclass(frozen=True)
class Retrieval:
    """What B queries found among N keys.

    Attributes:
        index: [B] int64, the nearest key after refinement.
        similarity: [B] float32, cosine of the refined query and that key.
        raw_similarity: [B] float32, cosine of the query as it came and that key.
        runner_up: [B] int64, the nearest key with another label than the winner's; -1 where there is none.
        runner_up_similarity: [B] float32, its cosine after refinement; -inf where there is none.
        crowd: [B] float32, mean cosine after refinement of the nearest ``neighbours`` keys with another label than
            the winner's; a missing or a negative one counts as 0.
    """

    index: Tensor
    similarity: Tensor
    raw_similarity: Tensor
    runner_up: Tensor
    runner_up_similarity: Tensor
    crowd: Tensor


def hopfield_step(
    query: Tensor,
    keys: Keys,
    *,
    alpha: float,
    beta: float,
    awake: Tensor | None = None,
    scores: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one damped attractor step: r = normalize(Kᵀ softmax(β K q)), q' = normalize((1 − α) q + α r).

    Args:
        query: [B, d] unit rows.
        keys: [N, d] unit rows, N ≥ 1, of the dtype of ``query`` or read as such.
        alpha: step size in [0, 1]; 0 leaves the query where it is.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.
        scores: [B, N] of the same dtype, contiguous, where K q is written; or None.

    Returns:
        The moved query q' and the read-out r, both [B, d] with unit rows.
    """
    attractor = readout(query, keys, beta=beta, awake=awake, scores=scores)
    return normalize(torch.lerp(query, attractor, alpha), dim=-1), attractor


def energy(query: Tensor, keys: Tensor, *, beta: float) -> Tensor:
    """Return E(q) = −β⁻¹ log Σᵢ exp(β kᵢ·q) + ½‖q‖² (Ramsauer et al. 2021), [B] from [B, d] and [N, d]; β > 0."""
    return -torch.logsumexp(beta * (query @ keys.T), dim=-1) / beta + 0.5 * query.square().sum(-1)


def retrieve(
    query: Tensor,
    keys: Keys,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    steps: int,
    epsilon: float,
    neighbours: int = 1,
    awake: Tensor | None = None,
    sketch: SmallCopy | None = None,
    index: Proposals | None = None,
) -> Retrieval:
    """Refine each query by at most ``steps`` Hopfield steps, then find its nearest key.

    A query stops early once ‖r − q‖ < ε. Rows do not influence each other, so a batch gives what its rows give
    alone, up to rounding. Of equal keys the first is the nearest. Keys are read a block at a time, once for each step
    and, without a step or for many queries, once for the search. Memory does not grow with B · N beyond the products of
    a few queries.

    Args:
        query: [B, d] float32 unit rows.
        keys: [N, d] unit rows, float32 or read as such, N ≥ 1.
        labels: [N] int64; keys of one label belong to one edit, and the runner-up is taken among the others.
        alpha: damping, see :func:`hopfield_step`.
        beta: inverse temperature.
        steps: T ≥ 0; 0 is plain nearest neighbour.
        epsilon: stop when the read-out is nearer than this.
        neighbours: size k ≥ 1 of the crowd.
        awake: [N] bool, the keys that take part (at least one); None for all.
        sketch: an int8 copy of the keys, read in their place by the search; the answer is the same.
        index: what proposes candidates to the search in the place of both, and may miss some; the steps read all keys,
            and for a few queries the search needs no more.
    """
    # The last step has multiplied all keys with queries that are near to where it took them.
    scores = table(query, keys) if steps and alpha > 0 else None
    states = [
        query,
        *_states(query, keys, alpha=alpha, beta=beta, steps=steps, epsilon=epsilon, awake=awake, scores=scores),
    ]
    refined = states[-1]
    size = min(neighbours, len(keys))
    winner, similarity = labels.new_empty(len(query)), refined.new_empty(len(query))
    order, nearest = labels.new_empty(len(query), size), refined.new_empty(len(query), size)
    pending = torch.arange(len(query), device=query.device)
    seen = None if scores is None else (states[-2], scores)
    for rank in attempts(refined, keys, neighbours, awake=awake, sketch=sketch, index=index, seen=seen):
        ranked = rank(pending)
        winner[pending], similarity[pending] = ranked.index[:, 0], ranked.similarity[:, 0]
        nearest[pending], order[pending], certain = nearest_others(ranked, labels, labels[ranked.index[:, 0]], size)
        pending = pending[~certain]
        if not len(pending):
            break
    runner = torch.where(nearest[:, 0].isneginf(), -1, order[:, 0])
    raw = (query * keys[winner]).sum(-1).clamp(max=1)
    return Retrieval(winner, similarity, raw, runner, nearest[:, 0], crowd(nearest, neighbours))


def trajectory(
    query: Tensor,
    keys: Keys,
    *,
    alpha: float,
    beta: float,
    steps: int,
    epsilon: float,
    awake: Tensor | None = None,
) -> Tensor:
    """Return where the Hopfield steps of :func:`retrieve` take each query, which also says what the arguments are.

    Returns:
        [steps + 1, B, d]: the queries as they came and after each step; one that stopped early stays where it is.
    """
    states = _states(query, keys, alpha=alpha, beta=beta, steps=steps, epsilon=epsilon, awake=awake)
    return torch.stack([query, *states])


def crowd(nearest: Tensor, neighbours: int) -> Tensor:
    """Return the mean [B] of the ``neighbours`` cosines [B, k] nearest; a missing or a negative one counts as 0."""
    return nearest.clamp(min=0).sum(-1) / neighbours


def _states(
    query: Tensor,
    keys: Keys,
    *,
    alpha: float,
    beta: float,
    steps: int,
    epsilon: float,
    awake: Tensor | None,
    scores: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the queries [B, d] after each step; ``scores`` [B, N] takes the products that a step began with."""
    refined = query
    moving = torch.ones(query.shape[0], 1, dtype=torch.bool, device=query.device)
    for _ in range(steps):
        if alpha > 0:
            moved, attractor = hopfield_step(refined, keys, alpha=alpha, beta=beta, awake=awake, scores=scores)
            moving = moving & ((attractor - refined).norm(dim=-1, keepdim=True) >= epsilon)
            refined = torch.where(moving, moved, refined)
        yield refined
