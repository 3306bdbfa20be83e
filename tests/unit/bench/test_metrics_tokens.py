from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from horen.bench.metrics.tokens import identical, kl_divergence, token_agreement

ids = st.lists(st.integers(0, 4), max_size=8)
some_ids = st.lists(st.integers(0, 4), min_size=1, max_size=8)
INF = math.inf


@pytest.mark.parametrize(
    ("generated", "target", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 9, 3], [1, 2, 3], 2 / 3),
        ([1, 2], [1, 2, 3], 2 / 3),
        ([], [1, 2], 0.0),
        ([1, 2, 3, 4], [1, 2], 1.0),
        ([2, 1], [1, 2], 0.0),
    ],
)
def test_token_agreement_by_hand(generated: list[int], target: list[int], expected: float):
    assert token_agreement(generated, target) == pytest.approx(expected)


@given(ids, some_ids, ids)
def test_token_agreement_ignores_what_follows(generated: list[int], target: list[int], more: list[int]):
    value = token_agreement(generated, target)
    assert 0.0 <= value <= 1.0
    assert value <= token_agreement(generated + more, target)
    assert token_agreement(generated[: len(target)], target) == value
    assert (value == 1.0) == (generated[: len(target)] == target)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8))
def test_token_agreement_compares_position_by_position(pairs: list[tuple[int, int]]):
    predicted, target = map(list, zip(*pairs, strict=True))
    assert token_agreement(predicted, target) == sum(a == b for a, b in pairs) / len(pairs)


def test_no_target_is_refused():
    with pytest.raises(ValueError, match="target has no tokens"):
        token_agreement([1], [])


@given(ids, ids)
def test_identical(a: list[int], b: list[int]):
    assert identical(a, b) == (a == b)
    assert identical(a, tuple(a))


def test_a_beginning_is_not_identical():
    assert not identical([1, 2], [1, 2, 3])
    assert identical([], [])


# --- divergence ---------------------------------------------------------------------------------------------------


def test_divergence_by_hand():
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    q = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.25, 0.75]])
    expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2), 0.0]
    torch.testing.assert_close(kl_divergence(p.log(), q.log()), torch.tensor(expected))


def test_what_a_distribution_excludes():
    log_p = torch.tensor([[0.0, -INF, -INF], [math.log(0.5), math.log(0.5), -INF]])
    log_q = torch.tensor([[0.0, -INF, -INF], [0.0, -INF, -INF]])
    assert kl_divergence(log_p, log_q).tolist() == [0.0, INF]
    assert kl_divergence(log_q, log_p).tolist() == pytest.approx([0.0, math.log(2)])


def test_tokens_too_unlikely_for_float32_add_nothing():
    log_p = torch.tensor([[0.0, -1e4]])
    assert kl_divergence(log_p, torch.tensor([[0.0, -2e4]])).tolist() == [0.0]


def rows(count: int, width: int, seed: int, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, width, generator=generator)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 50), st.floats(0, 30))
def test_divergence_is_never_negative_and_zero_of_the_same(seed: int, count: int, width: int, scale: float):
    log_p, log_q = (rows(count, width, seed + shift, scale).log_softmax(-1) for shift in (0, 1))
    found = kl_divergence(log_p, log_q)
    assert found.shape == (count,)
    assert found.dtype == torch.float32
    assert bool((found >= 0).all())
    assert kl_divergence(log_p, log_p).tolist() == [0.0] * count
    exact_p, exact_q = (rows(count, width, seed + shift, scale).double().log_softmax(-1) for shift in (0, 1))
    expected = (exact_p.exp() * (exact_p - exact_q)).sum(-1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_small_divergence_of_a_large_vocabulary_is_not_lost_in_rounding():
    logits = rows(4, 100_000, 0, 3.0)
    moved = logits + rows(4, 100_000, 1, 1e-3)
    exact_p, exact_q = (x.double().log_softmax(-1) for x in (logits, moved))
    expected = (exact_p.exp() * (exact_p - exact_q)).sum(-1)
    assert float(expected.max()) < 1e-6
    found = kl_divergence(logits.log_softmax(-1), moved.log_softmax(-1))
    torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0)


def test_half_precision_is_widened():
    log_p = rows(2, 10, 0, 1.0).log_softmax(-1).bfloat16()
    assert kl_divergence(log_p, log_p).dtype == torch.float32


@pytest.mark.parametrize(("p", "q"), [((2, 3), (1, 3)), ((3,), (3,)), ((2, 3), (2, 4))])
def test_shapes_that_would_broadcast_are_refused(p: tuple[int, ...], q: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"both must be \[n, V\]"):
        kl_divergence(torch.zeros(p), torch.zeros(q))
