"""Which entries queries wake: one state of a codebook, asked with a gate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from horen.memory.foresight import foresee, look_around
from horen.memory.gate import Gate, Scoring
from horen.memory.hopfield import Retrieval
from horen.memory.search.blocks import FEW
from horen.memory.search.index import FROM as INDEX_FROM
from horen.memory.search.index import Index, IndexedKeys
from horen.memory.search.nearest import Ranking, first_try, next_try, ranking
from horen.memory.search.sketch import FROM, Sketch, SketchedKeys, fits

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
        sketch: of the keys; the next state's too, unless keys were forgotten.
        index: what proposes candidates; None where all are searched.
    """

    keys: Tensor
    value_of: Tensor
    awake: Tensor | None
    count: int
    sketch: Sketch
    index: Index | None

    def aids(self) -> tuple[SketchedKeys | None, IndexedKeys | None]:
        """What a search has beside the keys: a small copy of them or, where there are very many, an index."""
        # On an accelerator all keys are read at once.
        if self.index is None or len(self.keys) < INDEX_FROM or self.keys.device.type != "cpu":
            return self.sketched(), None
        return None, IndexedKeys(self.index, self.index.take(self.keys), self.sketched)

    def sketched(self) -> SketchedKeys | None:
        """The small copy of the keys, where one pays."""
        return self.sketch.take(self.keys) if len(self.keys) >= FROM and fits(self.keys) else None


def match(stand: Stand, queries: Tensor, gate: Gate) -> list[Match]:
    """The nearest awake entry to each of [B, d_k] unit queries; an empty codebook gives an empty list."""
    if not stand.count or not len(queries):
        return []
    sketch, index = stand.aids()
    found, scores = gate.retrieve(queries, stand.keys, stand.value_of, awake=stand.awake, sketch=sketch, index=index)
    return _matches(stand, found, scores, gate)


def waking(
    stand: Stand, queries: Tensor, gate: Gate, *, above: float | None = None, prompts: Tensor | None = None
) -> list[Match | None]:
    """What :func:`match` finds for each query; None for some of those that do not fire, or all.

    Most prompts come near to no entry, which a look at the copy of the keys shows: the Hopfield steps, which need all
    keys as they are, are taken for the others alone. With ``prompts`` only what fires matters: most queries that wake
    an entry then need no step either (:mod:`horen.memory.foresight`).

    Args:
        stand: the codebook.
        queries: [B, d_k] float32 unit rows.
        gate: the settings.
        above: a score in the place of the gate's threshold: None is for some that score no more.
        prompts: [B] int64, queries of one number are readings of one prompt. What fires for a prompt, its reading with
            the highest score, is as in :func:`match`; cosines and scores after refinement may be a little off.
    """
    if not gate.steps or not gate.alpha or len(stand.keys) < FROM or not stand.count or not len(queries):
        return [*match(stand, queries, gate)] or [None] * len(queries)
    found: list[Match | None] = [None] * len(queries)
    sketch, index = stand.aids()
    asked = gate if above is None else replace(gate, threshold=above)
    if prompts is None or gate.steps > 1 or index is not None or sketch is None or len(queries) > FEW:
        unsure = asked.in_reach(surely(stand, queries, 1, (sketch, index)).similarity[:, 0])
    else:
        look = look_around(queries, stand.keys, gate, sketch, awake=stand.awake)
        unsure = asked.in_reach(look.highest)
        (near,) = torch.where(unsure)
        if len(near):
            seen = foresee(look.of(near), stand.value_of, gate)
            settled = seen.settled(stand.value_of, prompts[near])
            told = zip(near.tolist(), _matches(stand, seen.found, seen.score, gate), settled.tolist(), strict=True)
            for row, one, sure in told:
                found[row] = one if sure else None
            unsure[near[settled]] = False
    (rest,) = torch.where(unsure)
    for row, one in zip(rest.tolist(), match(stand, queries[rest], gate), strict=True):
        found[row] = one
    return found


def candidates(stand: Stand, queries: Tensor, scoring: Scoring, count: int) -> Candidates:
    """The ``count`` awake entries that each of [B, d_k] unit queries, B ≥ 1, ends nearest to.

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


def _matches(stand: Stand, found: Retrieval, scores: Tensor, gate: Gate) -> list[Match]:
    """Retrievals as the numbers of one state of the codebook."""
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


def surely(stand: Stand, queries: Tensor, count: int, aids: tuple[SketchedKeys | None, IndexedKeys | None]) -> Ranking:
    """The ranking of the ``count`` nearest awake entries, certain for each query where no index proposes them."""
    sketch, index = aids
    wanted = first_try(count, sketch, index)
    while True:
        found = ranking(queries, stand.keys, wanted, awake=stand.awake, sketch=sketch, index=index)
        if bool((found.known >= min(count, len(stand.keys))).all()):
            return found
        wanted = next_try(wanted)
