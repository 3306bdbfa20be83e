"""Which entries queries wake: one state of a codebook, asked with a gate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory import aids
from horen.memory.aids import Copies, Proposals, SmallCopy
from horen.memory.gate import Gate, Scoring
from horen.memory.hopfield import Retrieval
from horen.memory.keys import Keys
from horen.memory.plain import Ranking

# Keys that a Hopfield step weighs where only candidates are looked for.
STEPPED = 32


@dataclass(frozen=True)
class Match:
    """The nearest entry to one query.

    Attributes:
        entry: number of the nearest entry.
        value: number of the entry's value.
        similarity: cosine after refinement.
        raw_similarity: cosine before refinement.
        score: ``similarity`` less γ times the crowd's, which the threshold is compared with.
        fired: whether ``score`` exceeds the threshold and ``similarity`` leads the runner-up's by the margin.
        runner_up: number of the nearest entry with another value, or None.
        runner_up_similarity: its cosine after refinement, or None.
        asks: what the prompt asks, where a judge told: "own", "about" (something else about the same subject) or
            "other"; None where the cosine alone decided.
    """

    entry: int
    value: int
    similarity: float
    raw_similarity: float
    score: float
    fired: bool
    runner_up: int | None
    runner_up_similarity: float | None
    asks: str | None = None


@dataclass(frozen=True)
class Candidates:
    """The awake entries that B queries end nearest to, the nearest first.

    Attributes:
        entries: [B, n] int64 numbers; n is no more than are awake.
        similarity: [B, n] float32, cosines after refinement.
        raw_similarity: [B, n] float32, cosines before it.
        halves: [B, n, 2] float32, what the halves of query and key add to each cosine before refinement.
    """

    entries: Tensor
    similarity: Tensor
    raw_similarity: Tensor
    halves: Tensor


@dataclass(frozen=True)
class Stand:
    """One state of a codebook that belongs together: what a reader takes at once, whatever a writer does meanwhile.

    Attributes:
        keys: [n, d_k].
        value_of: [n].
        awake: [n] bool; None where all are.
        count: how many are awake.
        copies: of the keys; the next state's too, unless keys were forgotten. None where nobody reads any.
    """

    keys: Keys
    value_of: Tensor
    awake: Tensor | None
    count: int
    copies: Copies | None

    def aids(self) -> tuple[SmallCopy | None, Proposals | None]:
        """Return what a search has beside the keys: an int8 copy of them or, where there are very many, an index."""
        return (None, None) if self.copies is None else self.copies.beside(self.keys)

    def sketched(self) -> SmallCopy | None:
        """Return the int8 copy of the keys, where one pays."""
        return None if self.copies is None else self.copies.sketched(self.keys)


def match(stand: Stand, queries: Tensor, gate: Gate) -> list[Match]:
    """Return the nearest awake entry to each of [B, d_k] unit queries; an empty codebook gives an empty list."""
    if not stand.count or not len(queries):
        return []
    sketch, index = stand.aids()
    found, scores = gate.retrieve(queries, stand.keys, stand.value_of, awake=stand.awake, sketch=sketch, index=index)
    return matches(stand, found, scores, gate)


def waking(
    stand: Stand, queries: Tensor, gate: Gate, *, above: float | None = None, prompts: Tensor | None = None
) -> list[Match | None]:
    """Return what :func:`match` finds for each query; None for some of those that do not fire, or all.

    Args:
        stand: the codebook.
        queries: [B, d_k] float32 unit rows.
        gate: the settings.
        above: a score in the place of the gate's threshold: None is for some that score no more.
        prompts: [B] int64, queries of one number are readings of one prompt. What fires for a prompt, its reading with
            the highest score, is as in :func:`match`; cosines and scores after refinement may be a little off.
    """
    faster = aids.part("waking")
    found: list[Match | None] | None = faster and faster(stand, queries, gate, above=above, prompts=prompts)
    return ([*match(stand, queries, gate)] or [None] * len(queries)) if found is None else found


def candidates(stand: Stand, queries: Tensor, scoring: Scoring, count: int) -> Candidates:
    """Return the ``count`` awake entries that each of [B, d_k] unit queries, B ≥ 1, ends nearest to.

    A Hopfield step weighs the nearest keys alone: a softmax over all of them has a background that grows with their
    number, and a query's way should not depend on how much is stored that has nothing to do with it.

    Raises:
        ValueError: when no entry is awake.
    """
    if not stand.count:
        raise ValueError("The codebook is empty: there is nothing near a query.")
    near = min(max(count, STEPPED), stand.count)
    found = surely(stand, queries, near, stand.aids())
    entries, raw = found.index[:, :near], found.similarity[:, :near]
    keys = stand.keys[entries]
    refined = torch.cat([scoring.way(query[None], own)[-1] for query, own in zip(queries, keys, strict=True)])
    similarity = torch.einsum("bd,bnd->bn", refined, keys).clamp(max=1)
    order = similarity.sort(dim=-1, descending=True, stable=True).indices[:, :count]
    products = (queries[:, None] * keys).gather(1, order[..., None].expand(-1, -1, keys.shape[-1]))
    halves = torch.stack([half.sum(-1) for half in products.tensor_split(2, dim=-1)], dim=-1)
    return Candidates(entries.gather(1, order), similarity.gather(1, order), raw.gather(1, order), halves)


def matches(stand: Stand, found: Retrieval, scores: Tensor, gate: Gate) -> list[Match]:
    """Return retrievals as the numbers of one state of the codebook."""
    columns = (
        found.index.tolist(),
        stand.value_of[found.index].tolist(),
        found.similarity.tolist(),
        found.raw_similarity.tolist(),
        scores.tolist(),
        gate.fires(scores, found.similarity - found.runner_up_similarity).tolist(),
        found.runner_up.tolist(),
        found.runner_up_similarity.tolist(),
    )
    return [
        Match(
            entry=entry,
            value=value,
            similarity=similarity,
            raw_similarity=raw,
            score=score,
            fired=fired,
            runner_up=None if runner < 0 else runner,
            runner_up_similarity=None if runner < 0 else runner_similarity,
        )
        for entry, value, similarity, raw, score, fired, runner, runner_similarity in zip(*columns, strict=True)
    ]


def surely(stand: Stand, queries: Tensor, count: int, beside: tuple[SmallCopy | None, Proposals | None]) -> Ranking:
    """Return the ranking of the ``count`` nearest awake entries.

    It is certain for each query where no index proposes them.
    """
    sketch, index = beside
    rows = torch.arange(len(queries), device=queries.device)
    for rank in aids.attempts(queries, stand.keys, count, awake=stand.awake, sketch=sketch, index=index):
        found = rank(rows)
        if bool((found.known >= min(count, len(stand.keys))).all()):
            break
    return found
