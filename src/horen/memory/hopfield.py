"""Retrieval on the unit hypersphere as damped modern Hopfield dynamics: pure functions of tensors.

Equations: arXiv 2605.08143 (normalized Hopfield retrieval) and Ramsauer et al. 2021 (modern Hopfield networks).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize


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
    query: Tensor, keys: Tensor, *, alpha: float, beta: float, awake: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One damped attractor step: r = normalize(Kᵀ softmax(β K q)), q' = normalize((1 − α) q + α r).

    Args:
        query: [B, d] unit rows.
        keys: [N, d] unit rows, N ≥ 1, same dtype as ``query``.
        alpha: step size in [0, 1]; 0 leaves the query where it is.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.

    Returns:
        The moved query q' and the read-out r, both [B, d] with unit rows.
    """
    weights = torch.softmax(beta * _scores(query, keys, awake), dim=-1)
    readout = normalize(weights @ keys, dim=-1)
    return normalize(torch.lerp(query, readout, alpha), dim=-1), readout


def energy(query: Tensor, keys: Tensor, *, beta: float) -> Tensor:
    """E(q) = −β⁻¹ log Σᵢ exp(β kᵢ·q) + ½‖q‖² (Ramsauer et al. 2021), [B] from [B, d] and [N, d]; β > 0."""
    return -torch.logsumexp(beta * (query @ keys.T), dim=-1) / beta + 0.5 * query.square().sum(-1)


def _scores(query: Tensor, keys: Tensor, awake: Tensor | None) -> Tensor:
    scores = query @ keys.T
    return scores if awake is None else scores.masked_fill(~awake, -torch.inf)


def retrieve(
    query: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    steps: int,
    epsilon: float,
    neighbours: int = 1,
    awake: Tensor | None = None,
) -> Retrieval:
    """Refine each query by at most ``steps`` Hopfield steps, then find its nearest key.

    A query stops early once ‖r − q‖ < ε. Rows do not influence each other, so a batch gives what its rows give
    alone, up to rounding.

    Args:
        query: [B, d] float32 unit rows.
        keys: [N, d] float32 unit rows, N ≥ 1.
        labels: [N] int64; keys of one label belong to one edit, and the runner-up is taken among the others.
        alpha: damping, see :func:`hopfield_step`.
        beta: inverse temperature.
        steps: T ≥ 0; 0 is plain nearest neighbour.
        epsilon: stop when the read-out is nearer than this.
        neighbours: size k ≥ 1 of the crowd.
        awake: [N] bool, the keys that take part (at least one); None for all.
    """
    *_, refined = _states(query, keys, alpha=alpha, beta=beta, steps=steps, epsilon=epsilon, awake=awake)
    scores = _scores(refined, keys, awake)
    similarity, index = scores.max(dim=-1)
    raw = (query * keys[index]).sum(-1)
    nearest, order = nearest_others(scores, labels, labels[index], neighbours)
    runner = torch.where(nearest[:, 0].isneginf(), -1, order[:, 0])
    return Retrieval(index, similarity, raw, runner, nearest[:, 0], crowd(nearest, neighbours))


def trajectory(
    query: Tensor,
    keys: Tensor,
    *,
    alpha: float,
    beta: float,
    steps: int,
    epsilon: float,
    awake: Tensor | None = None,
) -> Tensor:
    """Where the Hopfield steps of :func:`retrieve` take each query, which also says what the arguments are.

    Returns:
        [steps + 1, B, d]: the queries as they came and after each step; one that stopped early stays where it is.
    """
    states = _states(query, keys, alpha=alpha, beta=beta, steps=steps, epsilon=epsilon, awake=awake)
    return torch.stack(list(states))


def nearest_others(scores: Tensor, labels: Tensor, own: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """The nearest keys with another label than one's own.

    Args:
        scores: [B, N] cosines.
        labels: [N] int64.
        own: [B] int64.
        neighbours: k ≥ 1.

    Returns:
        Their cosines in falling order, −inf where there is none, and their indices: both [B, min(k, N)].
    """
    others = scores.masked_fill(labels[None, :] == own[:, None], -torch.inf)
    nearest, order = others.topk(min(neighbours, scores.shape[-1]), dim=-1)
    return nearest, order


def crowd(nearest: Tensor, neighbours: int) -> Tensor:
    """Mean [B] of the ``neighbours`` cosines [B, k] nearest; a missing or a negative one counts as 0."""
    return nearest.clamp(min=0).sum(-1) / neighbours


def _states(
    query: Tensor, keys: Tensor, *, alpha: float, beta: float, steps: int, epsilon: float, awake: Tensor | None
) -> Iterator[Tensor]:
    """The queries [B, d] as they came and after each step."""
    refined = query
    yield refined
    moving = torch.ones(query.shape[0], 1, dtype=torch.bool, device=query.device)
    for _ in range(steps):
        if alpha > 0:
            moved, readout = hopfield_step(refined, keys, alpha=alpha, beta=beta, awake=awake)
            moving = moving & ((readout - refined).norm(dim=-1, keepdim=True) >= epsilon)
            refined = torch.where(moving, moved, refined)
        yield refined
