from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory import energy, hopfield_step, retrieve, trajectory

DIMENSION = 8


def unit(count: int, seed: int, *, dtype: torch.dtype = torch.float32, dimension: int = DIMENSION) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dimension, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


seeds = st.integers(0, 10_000)
counts = st.integers(1, 12)
alphas = st.floats(0, 1)
betas = st.floats(0, 60)


def is_unit(rows: Tensor) -> bool:
    return bool(torch.allclose(rows.norm(dim=-1), torch.ones(len(rows), dtype=rows.dtype), atol=1e-5))


@given(seeds, counts, counts, alphas, betas)
def test_step_stays_on_the_sphere(seed: int, queries: int, keys: int, alpha: float, beta: float):
    moved, readout = hopfield_step(unit(queries, seed), unit(keys, seed + 1), alpha=alpha, beta=beta)
    assert is_unit(moved)
    assert is_unit(readout)


@given(seeds, counts, counts, betas)
def test_alpha_zero_leaves_the_query(seed: int, queries: int, keys: int, beta: float):
    query = unit(queries, seed)
    moved, _ = hopfield_step(query, unit(keys, seed + 1), alpha=0.0, beta=beta)
    torch.testing.assert_close(moved, query, atol=1e-6, rtol=0)


@given(seeds, counts, counts, betas)
def test_alpha_one_lands_on_the_readout(seed: int, queries: int, keys: int, beta: float):
    moved, readout = hopfield_step(unit(queries, seed), unit(keys, seed + 1), alpha=1.0, beta=beta)
    torch.testing.assert_close(moved, readout, atol=1e-6, rtol=0)


def test_readout_is_the_softmax_average_of_the_keys():
    query, keys = unit(3, 0), unit(5, 1)
    weights = torch.softmax(4.0 * query @ keys.T, dim=-1)
    expected = torch.stack([sum(w * k for w, k in zip(row, keys, strict=True)) for row in weights])
    _, readout = hopfield_step(query, keys, alpha=0.5, beta=4.0)
    torch.testing.assert_close(readout, normalize(expected, dim=-1))


def test_a_single_key_is_the_readout():
    key = unit(1, 3)
    _, readout = hopfield_step(unit(4, 2), key, alpha=0.3, beta=7.0)
    torch.testing.assert_close(readout, key.expand(4, -1))


@given(seeds, counts, counts, st.floats(0.01, 30))
def test_energy_of_a_step_never_rises(seed: int, queries: int, keys: int, beta: float):
    query, stored = unit(queries, seed, dtype=torch.float64), unit(keys, seed + 1, dtype=torch.float64)
    for alpha in (1.0, 0.3):
        here = query
        for _ in range(4):
            moved, _ = hopfield_step(here, stored, alpha=alpha, beta=beta)
            assert (energy(moved, stored, beta=beta) <= energy(here, stored, beta=beta) + 1e-9).all()
            here = moved


def test_energy_by_hand():
    query = torch.tensor([[1.0, 0.0]])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = -torch.log(torch.exp(torch.tensor(2.0)) + 1) / 2 + 0.5
    torch.testing.assert_close(energy(query, keys, beta=2.0), expected[None])


OPTIONS = {"alpha": 0.2, "beta": 9.0, "steps": 3, "epsilon": 1e-4, "neighbours": 3}


@given(seeds, st.integers(2, 12), counts)
def test_a_batch_gives_what_its_rows_give(seed: int, queries: int, keys: int):
    query, stored = unit(queries, seed), unit(keys, seed + 1)
    labels = torch.arange(keys) // 2
    together = retrieve(query, stored, labels, **OPTIONS)
    for row in range(queries):
        alone = retrieve(query[row : row + 1], stored, labels, **OPTIONS)
        assert alone.index.item() == together.index[row].item()
        assert alone.runner_up.item() == together.runner_up[row].item()
        torch.testing.assert_close(alone.similarity[0], together.similarity[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.raw_similarity[0], together.raw_similarity[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.crowd[0], together.crowd[row], atol=1e-5, rtol=0)


@given(seeds, counts, st.permutations(range(7)))
def test_permuting_the_keys_permutes_the_answer(seed: int, queries: int, order: list[int]):
    query, stored, labels = unit(queries, seed), unit(7, seed + 1), torch.tensor([0, 0, 1, 2, 2, 3, 4])
    before = retrieve(query, stored, labels, **OPTIONS)
    after = retrieve(query, stored[order], labels[order], **OPTIONS)
    permuted = torch.tensor(order)
    assert torch.equal(permuted[after.index], before.index)
    assert torch.equal(permuted[after.runner_up], before.runner_up)
    torch.testing.assert_close(after.similarity, before.similarity, atol=1e-5, rtol=0)


@given(seeds, counts, st.lists(st.booleans(), min_size=6, max_size=6))
def test_sleeping_keys_are_as_if_they_were_not_there(seed: int, queries: int, awake: list[bool]):
    assume(any(awake))
    query, stored, labels = unit(queries, seed), unit(6, seed + 1), torch.tensor([0, 0, 1, 1, 2, 3])
    mask = torch.tensor(awake)
    kept = mask.nonzero()[:, 0]
    # Products of another shape round otherwise, and three steps at this beta make up to 4e-6 of it.
    masked = retrieve(query, stored, labels, awake=mask, **OPTIONS)
    removed = retrieve(query, stored[kept], labels[kept], **OPTIONS)
    assert torch.equal(masked.index, kept[removed.index])
    torch.testing.assert_close(masked.similarity, removed.similarity, atol=1e-5, rtol=0)
    expected = torch.where(removed.runner_up < 0, -1, kept[removed.runner_up.clamp_min(0)])
    assert torch.equal(masked.runner_up, expected)
    torch.testing.assert_close(masked.runner_up_similarity, removed.runner_up_similarity, atol=1e-5, rtol=0)
    torch.testing.assert_close(masked.crowd, removed.crowd, atol=1e-5, rtol=0)


def test_the_crowd_is_the_mean_of_the_nearest_keys_with_another_label():
    query = torch.tensor([[1.0, 0.0]])
    cosines = torch.tensor([0.9, 0.8, 0.6, -0.5, 0.4])
    keys = torch.stack([cosines, (1 - cosines.square()).sqrt()], dim=-1)
    labels = torch.tensor([0, 0, 1, 2, 3])
    still = {"alpha": 0.0, "beta": 1.0, "steps": 0, "epsilon": 0.0}
    assert float(retrieve(query, keys, labels, neighbours=1, **still).crowd) == pytest.approx(0.6)
    assert float(retrieve(query, keys, labels, neighbours=2, **still).crowd) == pytest.approx((0.6 + 0.4) / 2)
    # The fourth would be negative, and a fifth is not there: both count as 0.
    assert float(retrieve(query, keys, labels, neighbours=4, **still).crowd) == pytest.approx((0.6 + 0.4) / 4)
    assert float(retrieve(query, keys[:2], labels[:2], neighbours=4, **still).crowd) == 0


@given(seeds, counts, counts)
def test_the_runner_up_has_another_label(seed: int, queries: int, keys: int):
    labels = torch.arange(keys) % 3
    found = retrieve(unit(queries, seed), unit(keys, seed + 1), labels, **OPTIONS)
    for winner, runner, similarity in zip(found.index, found.runner_up, found.runner_up_similarity, strict=True):
        if keys == 1:
            assert runner == -1
            assert similarity == -torch.inf
        else:
            assert labels[runner] != labels[winner]
    assert (found.runner_up_similarity <= found.similarity).all()


@given(seeds, counts, counts, alphas)
def test_without_steps_it_is_plain_cosine_search(seed: int, queries: int, keys: int, alpha: float):
    query, stored = unit(queries, seed), unit(keys, seed + 1)
    found = retrieve(query, stored, torch.arange(keys), alpha=alpha, beta=5.0, steps=0, epsilon=0.0)
    for row, index in enumerate(found.index.tolist()):
        cosines = [float(query[row] @ key) for key in stored]
        assert cosines[index] == pytest.approx(max(cosines), abs=1e-6)
        assert float(found.similarity[row]) == pytest.approx(max(cosines), abs=1e-6)
        assert float(found.raw_similarity[row]) == pytest.approx(cosines[index], abs=1e-6)


@given(seeds, counts, counts, st.integers(0, 4))
def test_steps_are_those_of_hopfield_step(seed: int, queries: int, keys: int, steps: int):
    query, stored = unit(queries, seed), unit(keys, seed + 1)
    refined = query
    for _ in range(steps):
        refined, _ = hopfield_step(refined, stored, alpha=0.4, beta=6.0)
    found = retrieve(query, stored, torch.arange(keys), alpha=0.4, beta=6.0, steps=steps, epsilon=0.0)
    torch.testing.assert_close(found.similarity, (refined @ stored.T).amax(-1), atol=1e-6, rtol=0)


def test_a_query_that_has_arrived_stops():
    keys, labels = unit(2, 5), torch.arange(2)
    query = torch.cat([keys[:1], unit(1, 9)])
    options = {"alpha": 1.0, "beta": 3.0, "steps": 5}
    # Nobody is nearer than 0 and everybody is nearer than 3: no step is skipped, or every one is.
    never = retrieve(query, keys, labels, epsilon=0.0, **options)
    always = retrieve(query, keys, labels, epsilon=3.0, **options)
    still = retrieve(query, keys, labels, alpha=0.0, beta=3.0, steps=0, epsilon=0.0)
    assert torch.equal(always.similarity, still.similarity)
    assert not torch.equal(never.similarity, always.similarity)


def test_one_query_stops_while_another_goes_on():
    keys = torch.eye(4)
    near, far = keys[:1], normalize(torch.tensor([[1.0, 0.9, 0.8, 0.7]]), dim=-1)
    options = {"alpha": 0.5, "beta": 50.0, "steps": 4, "epsilon": 0.01}
    both = retrieve(torch.cat([near, far]), keys, torch.arange(4), **options)
    assert float(both.similarity[0]) == 1.0
    assert float(both.similarity[1]) > float(both.raw_similarity[1])


def test_refinement_pulls_a_noisy_query_to_its_key():
    keys = unit(20, 11, dimension=64)
    query = normalize(keys + 0.05 * unit(20, 12, dimension=64), dim=-1)
    found = retrieve(query, keys, torch.arange(20), alpha=0.5, beta=40.0, steps=3, epsilon=0.0)
    assert torch.equal(found.index, torch.arange(20))
    assert (found.similarity >= found.raw_similarity).all()


@given(seeds, counts, counts, st.integers(0, 4), alphas, st.sampled_from([0.0, 0.3, 3.0]))
def test_a_trajectory_ends_where_retrieval_does(
    seed: int, queries: int, keys: int, steps: int, alpha: float, epsilon: float
):
    query, stored, labels = unit(queries, seed), unit(keys, seed + 1), torch.arange(keys)
    dynamics = {"alpha": alpha, "beta": 6.0, "steps": steps, "epsilon": epsilon}
    path = trajectory(query, stored, **dynamics)
    assert path.shape == (steps + 1, queries, DIMENSION)
    assert torch.equal(path[0], query)
    found = retrieve(query, stored, labels, **dynamics)
    torch.testing.assert_close((path[-1] @ stored.T).amax(-1), found.similarity, atol=1e-6, rtol=0)
    # One step of so many is the first of them.
    shorter = trajectory(query, stored, **(dynamics | {"steps": max(steps - 1, 0)}))
    assert torch.equal(path[: len(shorter)], shorter)


def test_a_trajectory_leaves_sleeping_keys_out():
    query, stored, awake = unit(3, 1), unit(5, 2), torch.tensor([True, False, True, True, False])
    dynamics = {"alpha": 0.5, "beta": 6.0, "steps": 2, "epsilon": 0.0}
    torch.testing.assert_close(
        trajectory(query, stored, awake=awake, **dynamics), trajectory(query, stored[awake], **dynamics)
    )
