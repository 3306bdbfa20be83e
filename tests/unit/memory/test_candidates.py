from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory import Codebook, Scoring, trajectory


def unit(count: int, size: int, seed: int) -> Tensor:
    return normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=-1)


def stored(keys: Tensor, asleep: list[int] | None = None) -> Codebook:
    codebook = Codebook(keys.shape[1], 1)
    for key in keys:
        codebook.add_entries(key[None], codebook.add_value(torch.zeros(1)))
    codebook.set_awake(asleep or [], False)
    return codebook


SCORING = Scoring(alpha=0.3, beta=15.0, steps=2)


@given(st.integers(1, 32), st.integers(1, 6), st.integers(0, 99))
def test_few_keys_are_refined_as_by_the_whole_step(count: int, wanted: int, seed: int):
    keys, queries = unit(count, 8, seed), unit(3, 8, seed + 1)
    found, value_of = stored(keys).candidates(queries, SCORING, wanted) or pytest.fail("nothing found")
    # In float64: two ways to sum in float32 may each be off by half of what is allowed.
    refined = trajectory(queries.double(), keys.double(), alpha=0.3, beta=15.0, steps=2, epsilon=1e-5)[-1]
    similarity, order = (refined @ keys.double().T).sort(dim=-1, descending=True)
    size = min(wanted, count)
    torch.testing.assert_close(found.similarity.double(), similarity[:, :size], atol=1e-5, rtol=1e-5)
    assert found.entries.shape == (3, size)
    clear = (similarity[:, :-1] - similarity[:, 1:] > 1e-5).all() if count > 1 else True
    if clear:
        assert torch.equal(found.entries, order[:, :size])
    assert value_of.tolist() == list(range(count))


@given(st.integers(40, 200), st.integers(0, 99))
def test_the_nearest_of_many_are_found_and_their_halves_add_up(count: int, seed: int):
    keys, queries = unit(count, 16, seed), unit(4, 16, seed + 1)
    found, _ = stored(keys).candidates(queries, Scoring(alpha=0.0, beta=1.0, steps=1), 5) or pytest.fail("none")
    nearest = (queries @ keys.T).topk(5).values
    torch.testing.assert_close(found.similarity, nearest, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.raw_similarity, nearest, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.halves.sum(-1), found.raw_similarity, atol=1e-6, rtol=0)
    own = keys[found.entries[:, 0]]
    torch.testing.assert_close(found.halves[:, 0, 0], (queries * own)[:, :8].sum(-1), atol=1e-6, rtol=0)


def test_what_is_far_does_not_change_what_a_query_comes_to():
    near, query = unit(32, 64, 0), unit(1, 64, 1)
    query = normalize(query + 3 * near[:1], dim=-1)
    far = unit(5000, 64, 2)
    far = far[(far @ query[0]) < float((near @ query[0]).min())]
    few, _ = stored(near).candidates(query, SCORING, 3) or pytest.fail("none")
    many, _ = stored(torch.cat([near, far])).candidates(query, SCORING, 3) or pytest.fail("none")
    assert torch.equal(few.entries, many.entries)
    torch.testing.assert_close(few.similarity, many.similarity)


def test_what_sleeps_is_no_candidate():
    keys = unit(40, 8, 0)
    found, _ = stored(keys, [3, 5]).candidates(keys[[3, 4]], SCORING, 40) or pytest.fail("none")
    assert found.entries.shape == (2, 38)
    assert not {3, 5} & set(found.entries.flatten().tolist())
    assert stored(keys, list(range(40))).candidates(keys[:1], SCORING, 3) is None
    assert stored(keys).candidates(keys[:0], SCORING, 3) is None
