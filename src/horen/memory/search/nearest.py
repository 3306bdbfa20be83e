"""The nearest keys, exactly: candidates from a pass over a copy that may err, rescored, and checked by how far it may.

Every key outside the candidates has an approximate score of at most the last candidate's, so its true one is at most
that plus the error; candidates whose true score is greater are the nearest keys in their true order. Where an index
proposes candidates instead, their scores and order are as true, but a nearer key may be missing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from horen.memory.keys import Keys
from horen.memory.plain import Attempt, Ranking
from horen.memory.search.blocks import blocks, parts
from horen.memory.search.index import MOST, IndexedKeys
from horen.memory.search.sketch import Rough, SeenKeys, SketchedKeys

# Scores are first compared in so many rows at once: a maximum is cheaper than a selection.
_GROUP = 8
# Most numbers of keys that are gathered at once to rescore candidates, and in a table of approximate scores.
_GATHERED = _TABLE = 1 << 22
# Fewest groups of keys in a part of an int8 copy.
_LEAST = 64
# Candidates that are taken first for each one that is wanted: many where a copy may err, for a second pass costs more.
_SPARE, _SPARE_OF_COPY, _SPARE_OF_INDEX = 2, 16, 4
# How many times as many when they turn out to be too few.
_MORE = 8
# With more candidates a search of its own reads fewer bytes than the products of a step have.
_MOST_SEEN = 1 << 11


def attempts(
    queries: Tensor,
    keys: Keys,
    wanted: int,
    *,
    awake: Tensor | None,
    sketch: SketchedKeys | None,
    index: IndexedKeys | None,
    seen: tuple[Tensor, Tensor] | None,
) -> Iterator[Attempt]:
    """Yield rankings of ever more keys, see :func:`horen.memory.aids.attempts`."""
    if seen is not None:
        products = SeenKeys(*seen)
        count = _first(wanted, products)
        while count <= _MOST_SEEN:
            yield functools.partial(_among_seen, queries, keys, count, awake, products)
            count *= _MORE
    count = _first(wanted, sketch, index)
    while True:
        yield functools.partial(_among, queries, keys, count, awake, sketch, index)
        count *= _MORE


def _among_seen(queries: Tensor, keys: Keys, count: int, awake: Tensor | None, seen: SeenKeys, rows: Tensor) -> Ranking:
    return ranking(queries[rows], keys, count, awake=awake, sketch=seen.of(rows))


def _among(
    queries: Tensor,
    keys: Keys,
    count: int,
    awake: Tensor | None,
    sketch: SketchedKeys | None,
    index: IndexedKeys | None,
    rows: Tensor,
) -> Ranking:
    return ranking(queries[rows], keys, count, awake=awake, sketch=sketch, index=index)


def _first(wanted: int, sketch: SketchedKeys | SeenKeys | None, index: IndexedKeys | None = None) -> int:
    """Return how many candidates to take first for so many that are wanted."""
    if index is not None:
        return max(index.index.candidates, _SPARE_OF_INDEX * (wanted + 1))
    return (_SPARE if sketch is None else _SPARE_OF_COPY) * (wanted + 1)


def ranking(
    queries: Tensor,
    keys: Keys,
    count: int,
    *,
    awake: Tensor | None = None,
    sketch: SketchedKeys | SeenKeys | None = None,
    index: IndexedKeys | None = None,
) -> Ranking:
    """Rank the M = min(``count``, N) keys nearest to each query.

    Args:
        queries: [B, d] float32 unit rows.
        keys: [N, d] float32 unit rows, N ≥ 1.
        count: how many, ≥ 1.
        awake: [N] bool, the keys that take part; None for all.
        sketch: what is known of products with the same keys, to read in their place; None reads the keys.
        index: of the same keys, to propose candidates unless too many are wanted; it brings an int8 copy of its own.

    Returns:
        The ranking; all of it is certain where every key is in it.
    """
    count = min(count, len(keys))
    if index is not None:
        if count <= min(MOST, len(keys) - 1):
            return _proposed(queries, keys, count, awake, index)
        sketch = index.sketch()
    # Rounding of a product in any order of summation.
    error = queries.new_full((len(queries), 1), keys.shape[1] * torch.finfo(keys.dtype).eps)
    if sketch is None or not sketch.pays(len(queries)):
        rough, rows = _candidates(queries, keys, count, awake)
    else:
        copied = sketch.asked(queries)
        error += copied.error
        rough, rows = _rough_candidates(copied, len(keys), len(queries), count, awake)
    similarity, order = _rescored(queries, keys, rough, rows)
    outside = rough.amin(-1, keepdim=True) + error
    known = (similarity > outside).sum(-1) if count < len(keys) else torch.full_like(rows[:, 0], len(keys))
    # A candidate that sleeps shows that no other key is awake.
    return Ranking(similarity.clamp(max=1), order, torch.where(rough.isneginf().any(-1), len(keys), known))


def _candidates(queries: Tensor, keys: Keys, count: int, awake: Tensor | None) -> tuple[Tensor, Tensor]:
    best: tuple[Tensor, Tensor] | None = None
    for part in blocks(keys, len(queries)):
        best = _better(best, queries @ keys[part].T, part, count, awake)
    assert best is not None  # noqa: S101 - there is a key
    return best


def _rough_candidates(
    rough: Rough, length: int, queries: int, count: int, awake: Tensor | None
) -> tuple[Tensor, Tensor]:
    best: tuple[Tensor, Tensor] | None = None
    # In even multiples of the groups, so that no part has a rest but the last.
    for part in parts(length, max(_TABLE // queries // _GROUP, _LEAST) * _GROUP):
        best = _better(best, rough.products(part), part, count, awake)
    assert best is not None  # noqa: S101 - there is a key
    return best


def _better(
    best: tuple[Tensor, Tensor] | None, scores: Tensor, part: slice, count: int, awake: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the ``count`` best of what was found so far and of a part's scores [B, n], or all if they are fewer."""
    if awake is not None:
        scores = scores.masked_fill_(~awake[part], -torch.inf)
    found, columns = top(scores, count)
    columns += part.start
    if best is not None:
        found, columns = torch.cat([best[0], found], dim=-1), torch.cat([best[1], columns], dim=-1)
        if found.shape[-1] > count:
            found, order = found.topk(count, dim=-1, sorted=False)
            columns = columns.gather(-1, order)
    return found, columns


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` greatest of [B, n] scores and their columns, in no order; all where n is no more."""
    rows, length = scores.shape
    wide = length // _GROUP
    if wide <= 2 * count:
        return scores.topk(min(count, length), dim=-1, sorted=False)
    # The greatest lie in the groups with the greatest maxima; column c is in group c modulo ``wide``.
    whole = scores[:, : wide * _GROUP].view(rows, _GROUP, wide)
    groups = whole.amax(1).topk(count, dim=-1, sorted=False).indices
    columns = (groups[:, None] + wide * torch.arange(_GROUP, device=scores.device)[:, None]).flatten(1)
    rest = torch.arange(wide * _GROUP, length, device=scores.device).expand(rows, -1)
    columns = torch.cat([columns, rest], dim=-1)
    found, order = scores.gather(-1, columns).topk(count, dim=-1, sorted=False)
    return found, columns.gather(-1, order)


def _proposed(queries: Tensor, keys: Keys, count: int, awake: Tensor | None, index: IndexedKeys) -> Ranking:
    """Return the ranking of what an index proposes and of the keys that it lacks."""
    rows = index.propose(queries, count)
    rough = torch.zeros(rows.shape).masked_fill_(rows < 0, -torch.inf)
    rows.clamp_(min=0)
    if awake is not None:
        rough.masked_fill_(~awake[rows], -torch.inf)
    if index.length < len(keys):
        last = slice(index.length, len(keys))
        some, beside = _candidates(queries, keys[last], count, None if awake is None else awake[last])
        rough, rows = torch.cat([rough, some], dim=-1), torch.cat([rows, beside + index.length], dim=-1)
    similarity, order = _rescored(queries, keys, rough, rows)
    return Ranking(similarity.clamp(max=1), order, (~similarity.isneginf()).sum(-1))


def _rescored(queries: Tensor, keys: Keys, rough: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return candidates [B, M] by their true scores, and these; those that sleep, at −inf, come last."""
    index, order = index.sort(dim=-1)
    # Row by row, not as a matrix product: equal keys must score alike wherever they are.
    similarity = torch.cat(
        [
            (keys[index[part]] * queries[part, None]).sum(-1)
            for part in parts(len(queries), max(1, _GATHERED // (index.shape[-1] * keys.shape[1])))
        ]
    )
    similarity = similarity.masked_fill_(rough.gather(-1, order).isneginf(), -torch.inf)
    similarity, order = similarity.sort(dim=-1, descending=True, stable=True)
    return similarity, index.gather(-1, order)
