"""Retrieval as its formulas say, over whole tables of scores: what the streaming one is held against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory import Int8Keys, KeyStorage, Retrieval
from horen.memory.keys import scales_of


def retrieve_whole(
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
) -> tuple[Retrieval, Tensor]:
    """What :func:`horen.memory.retrieve` gives, in float64, and the scores [B, N] of all keys after refinement."""
    query, keys = query.double(), keys.double()
    asleep = torch.zeros(len(keys), dtype=torch.bool) if awake is None else ~awake
    refined = query
    moving = torch.ones(len(query), 1, dtype=torch.bool)
    for _ in range(steps if alpha > 0 else 0):
        weights = torch.softmax((beta * (refined @ keys.T)).masked_fill(asleep, -torch.inf), dim=-1)
        attractor = normalize(weights @ keys, dim=-1)
        moved = normalize(torch.lerp(refined, attractor, alpha), dim=-1)
        moving = moving & ((attractor - refined).norm(dim=-1, keepdim=True) >= epsilon)
        refined = torch.where(moving, moved, refined)
    scores = (refined @ keys.T).masked_fill(asleep, -torch.inf)
    similarity, index = scores.max(dim=-1)
    others = scores.masked_fill(labels[None] == labels[index][:, None], -torch.inf)
    nearest, order = others.sort(dim=-1, descending=True, stable=True)
    crowd = nearest[:, :neighbours].clamp(min=0).sum(-1) / neighbours
    runner = torch.where(nearest[:, 0].isneginf(), -1, order[:, 0])
    return Retrieval(index, similarity, (query * keys[index]).sum(-1), runner, nearest[:, 0], crowd), scores


def unit(count: int, seed: int, dimension: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dimension, generator=generator, dtype=torch.float64), dim=-1).float()


def as_integers(keys: Tensor) -> Int8Keys:
    """Unit keys as they are stored in int8."""
    numbers = KeyStorage("int8").pack(keys)
    return Int8Keys(numbers, scales_of(numbers))


def clustered(count: int, seed: int, dimension: int, *, clusters: int = 5, spread: float = 0.3) -> Tensor:
    """Unit keys around a few centres: neighbours that are hard to tell apart."""
    centres = unit(clusters, seed, dimension)
    return normalize(centres[torch.arange(count) % clusters] + spread * unit(count, seed + 1, dimension), dim=-1)
