from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from horen.memory import Retrieval, retrieve
from horen.memory.search import blocks
from horen.memory.search import nearest as search
from horen.memory.search.nearest import ranking
from horen.memory.search.sketch import Sketch, supported
from support.reference import clustered, retrieve_whole, unit

DIMENSION = 24
BYTES = [False, True] if supported() else [False]
CLOSE = {"atol": 3e-6, "rtol": 0}
ROUNDING = 2.0**-23


@contextmanager
def blocks_of(rows: int) -> Iterator[None]:
    """Work in small blocks, so that few keys are many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_CACHED_BYTES", rows * 4 * DIMENSION)
        patch.setattr(search, "_TABLE", 1)
        patch.setattr(search, "_LEAST", max(1, rows // 8))
        patch.setattr(search, "_GATHERED", 2 * DIMENSION)
        yield


def assert_same(found: Retrieval, expected: Retrieval, scores: Tensor, *, widened: float = 1.0):
    """Equal up to rounding; of keys that only rounding tells apart either may be named."""
    close = CLOSE | {"atol": min(max(CLOSE["atol"], ROUNDING * widened), 1e-4)}
    rows = torch.arange(len(scores))
    torch.testing.assert_close(found.similarity.double(), expected.similarity, **close)
    torch.testing.assert_close(scores[rows, found.index], expected.similarity, **close)
    # What stands around another winner is another matter.
    same = found.index == expected.index
    torch.testing.assert_close(found.raw_similarity.double()[same], expected.raw_similarity[same], **close)
    torch.testing.assert_close(found.runner_up_similarity.double()[same], expected.runner_up_similarity[same], **close)
    torch.testing.assert_close(found.crowd.double()[same], expected.crowd[same], **close)
    assert torch.equal(found.runner_up[same] < 0, expected.runner_up[same] < 0)
    there = same & (found.runner_up >= 0)
    runners = scores[rows, found.runner_up.clamp_min(0)]
    torch.testing.assert_close(runners[there], expected.runner_up_similarity[there], **close)


@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 130), st.sampled_from([1, 7, 32, 1000])),
    alpha=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    beta=st.sampled_from([0.0, 5.0, 20.0, 400.0]),
    steps=st.integers(0, 3),
    epsilon=st.sampled_from([0.0, 1e-5, 0.4]),
    neighbours=st.integers(1, 9),
    labels=st.integers(1, 40),
    asleep=st.floats(0, 0.95),
    sketched=st.sampled_from(BYTES),
    near=st.booleans(),
)
@example(6, (2, 3, 1), 0.5, 20.0, 2, 0.0, 1, 1, 0.0, False, False)
def test_streaming_gives_what_whole_tables_give(
    seed: int,
    sizes: tuple[int, int, int],
    alpha: float,
    beta: float,
    steps: int,
    epsilon: float,
    neighbours: int,
    labels: int,
    asleep: float,
    sketched: bool,
    near: bool,
):
    queries, count, rows = sizes
    keys = clustered(count, seed, DIMENSION) if near else unit(count, seed, DIMENSION)
    query = clustered(queries, seed, DIMENSION, spread=0.5) if near else unit(queries, seed + 7, DIMENSION)
    generator = torch.Generator().manual_seed(seed)
    names = torch.randint(labels, (count,), generator=generator)
    awake = torch.rand(count, generator=generator) >= asleep
    awake[seed % count] = True
    options = {"alpha": alpha, "beta": beta, "steps": steps, "epsilon": epsilon, "neighbours": neighbours}
    expected, scores = retrieve_whole(query, keys, names, awake=awake, **options)
    sketch = Sketch(DIMENSION).take(keys) if sketched else None
    # A step's derivative is at most 1 − α + α β: it may drive apart by so much what rounding has told apart.
    widened = max(1.0, 1 - alpha + alpha * beta) ** steps
    with blocks_of(rows):
        found = retrieve(query, keys, names, awake=awake, sketch=sketch, **options)
    assert_same(found, expected, scores, widened=widened)
    if bool(awake.all()):
        with blocks_of(rows):
            again = retrieve(query, keys, names, sketch=sketch, **options)
        assert_same(again, expected, scores, widened=widened)


@given(st.integers(0, 1000), st.integers(1, 120), st.integers(1, 200), st.sampled_from(BYTES))
def test_what_is_known_of_a_ranking_is_the_true_one(seed: int, count: int, wanted: int, sketched: bool):
    keys, query = clustered(count, seed, DIMENSION, spread=0.2), clustered(3, seed, DIMENSION, spread=0.4)
    sketch = Sketch(DIMENSION).take(keys) if sketched else None
    with blocks_of(16):
        found = ranking(query, keys, wanted, sketch=sketch)
    true = (query.double() @ keys.double().T).sort(dim=-1, descending=True).values
    assert found.index.shape == (3, min(wanted, count))
    assert (found.similarity.diff(dim=-1) <= 0).all()
    for row, known in enumerate(found.known.clamp_max(found.index.shape[1]).tolist()):
        torch.testing.assert_close(found.similarity[row, :known].double(), true[row, :known], **CLOSE)
    assert wanted < count or (found.known == count).all()


@pytest.mark.parametrize("sketched", BYTES)
@pytest.mark.parametrize("rows", [1, 16, 1000])
def test_of_equal_keys_the_first_wins(rows: int, sketched: bool):
    key = unit(1, 3, DIMENSION)
    keys = torch.cat([unit(50, 4, DIMENSION), key.expand(150, -1), unit(50, 5, DIMENSION), key])
    sketch = Sketch(DIMENSION).take(keys) if sketched else None
    options = {"alpha": 0.1, "beta": 20.0, "steps": 1, "epsilon": 0.0}
    with blocks_of(rows):
        found = retrieve(key.expand(6, -1), keys, torch.arange(len(keys)), sketch=sketch, **options)
        one = retrieve(key, keys, torch.zeros(len(keys), dtype=torch.int64), sketch=sketch, **options)
    assert found.index.tolist() == [50] * 6
    assert found.runner_up.tolist() == [51] * 6
    assert (one.index.tolist(), one.runner_up.tolist()) == ([50], [-1])


@pytest.mark.parametrize("crowded", [300, 3000])
def test_queries_in_a_crowd_are_looked_at_again_without_those_that_are_settled(crowded: int):
    alone, centre = unit(2, 1, DIMENSION)
    draw = torch.Generator().manual_seed(2)
    cluster = unit(crowded, 3, DIMENSION).mul(0.3).add(centre)
    keys = torch.nn.functional.normalize(torch.cat([alone[None], cluster]), dim=-1)
    far = unit(100, 4, DIMENSION)
    keys = torch.cat([keys, far[(far @ keys[:1].T)[:, 0] < 0.3]])
    spread = 0.4 * torch.randn(2, DIMENSION, generator=draw)
    query = torch.nn.functional.normalize(
        torch.stack([centre, alone, centre])
        + torch.cat([spread, spread[:1]]).mul(torch.tensor([[1.0], [0.0], [-1.0]])),
        dim=-1,
    )
    options = {"alpha": 0.3, "beta": 20.0, "steps": 1, "epsilon": 0.0, "neighbours": 4}
    names = torch.arange(len(keys))
    expected, scores = retrieve_whole(query, keys, names, **options)
    found = retrieve(query, keys, names, **options)
    # Of thousands of keys rounding adds up.
    assert_same(found, expected, scores, widened=40.0)
    assert int(found.index[1]) == 0


@pytest.mark.parametrize("sketched", BYTES)
def test_memory_does_not_grow_with_the_table_of_scores(sketched: bool):
    keys, query = unit(20_000, 1, DIMENSION), unit(64, 2, DIMENSION)
    sketch = Sketch(DIMENSION).take(keys) if sketched else None
    profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    with profile, pytest.MonkeyPatch.context() as patch:
        for module, name in ((blocks, "_TABLE"), (search, "_TABLE"), (search, "_GATHERED")):
            patch.setattr(module, name, 1 << 16)
        retrieve(
            query, keys, torch.arange(20_000), alpha=0.1, beta=20.0, steps=2, epsilon=0.0, neighbours=8, sketch=sketch
        )
    largest = [event.self_cpu_memory_usage for event in profile.events()]
    # The whole table would take 5 MB; a block's takes a quarter of one.
    assert 0 < max(largest) < 64 * 20_000 * 4 / 8


def test_no_cosine_passes_one():
    generator = torch.Generator().manual_seed(3)
    keys = torch.nn.functional.normalize(torch.randn(400, 48, generator=generator), dim=-1)
    assert float((keys * keys).sum(-1).amax()) > 1  # by rounding
    found = retrieve(keys, keys, torch.arange(400), alpha=0.1, beta=20.0, steps=0, epsilon=1e-5)
    assert float(found.similarity.amax()) <= 1
    assert float(found.raw_similarity.amax()) <= 1
