"""The equations of ROME, MEMIT and AlphaEdit against least squares by brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from horen.editors.common.locate.solving import factored, least_squares, null_space, projected, rank_one

D, OUT = 7, 4
seeds = st.integers(0, 2**31)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def constrained(preserved: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The Δ that minimises ‖Δ K‖² subject to Δ k = δ: the equations of Lagrange, solved as one linear system."""
    size = len(preserved)
    system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size] = 2 * preserved @ preserved.T
    system[:size, size], system[size, :size] = key, key
    right = torch.zeros(size + 1, len(value), dtype=torch.float64)
    right[size] = value
    return torch.linalg.solve(system, right)[:size].T


@given(seeds)
@settings(max_examples=25)
def test_romes_change_is_the_least_that_stores_the_fact(seed: int):
    preserved, key, value = drawn(seed, D, 30), drawn(seed + 1, D), drawn(seed + 2, OUT)
    change = rank_one(factored(preserved @ preserved.T / 30), key, value)
    torch.testing.assert_close(change @ key, value)
    torch.testing.assert_close(change, constrained(preserved, key, value), atol=1e-3, rtol=1e-3)
    assert int(torch.linalg.matrix_rank(change)) == 1


def test_romes_change_in_float32_maps_the_key_to_the_value():
    preserved, key, weight, value = drawn(0, D, 30), drawn(1, D), drawn(2, OUT, D).float(), drawn(3, OUT)
    edited = weight + rank_one(factored(preserved @ preserved.T), key, value - weight.double() @ key).float()
    torch.testing.assert_close(edited @ key.float(), value.float())


def test_romes_change_exists_when_the_text_has_fewer_tokens_than_a_key_has_coordinates():
    preserved, key, value = drawn(0, D, 3), drawn(1, D), drawn(2, OUT)
    change = rank_one(factored(preserved @ preserved.T / 3), key, value)
    torch.testing.assert_close(change @ key, value)
    assert torch.linalg.norm(change @ preserved) < 1e-3 * torch.linalg.norm(change)


@given(seeds, st.integers(1, 9), st.floats(0.01, 100))
@settings(max_examples=25)
def test_memits_change_solves_its_least_squares(seed: int, count: int, weight: float):
    preserved, keys, residuals = drawn(seed, D, 30), drawn(seed + 1, count, D), drawn(seed + 2, count, OUT)
    moment = preserved @ preserved.T / 30
    change = least_squares(moment, keys, residuals, weight)
    # All keys below one another, those of the text with residuals of zero.
    rows = torch.cat([keys, (weight / 30) ** 0.5 * preserved.T])
    wanted = torch.cat([residuals, torch.zeros(30, OUT, dtype=torch.float64)])
    torch.testing.assert_close(change, torch.linalg.lstsq(rows, wanted).solution.T, atol=1e-4, rtol=1e-4)
    normal = change @ (weight * moment + keys.T @ keys)
    torch.testing.assert_close(normal, residuals.T @ keys, atol=1e-3, rtol=1e-4)


@given(seeds, st.integers(1, 9), st.integers(0, 9))
@settings(max_examples=25)
def test_alphaedits_change_is_the_published_one_and_spares_preserved_keys(seed: int, count: int, before: int):
    preserved = drawn(seed, D, 3)
    keys, residuals, past = drawn(seed + 1, count, D), drawn(seed + 2, count, OUT), drawn(seed + 3, D, before)
    basis, unit = null_space(preserved @ preserved.T, 1e-6, relative=False)
    assert basis.shape == (D, D - 3)
    assert unit == 1
    change = projected(basis, past @ past.T, keys, residuals, 1.0)
    projection, identity = basis @ basis.T, torch.eye(D, dtype=torch.float64)
    published = (residuals.T @ keys @ projection) @ torch.linalg.inv(
        past @ past.T @ projection + keys.T @ keys @ projection + identity
    )
    torch.testing.assert_close(change, published)
    torch.testing.assert_close(change @ preserved, torch.zeros(OUT, 3, dtype=torch.float64))


def test_alphaedits_change_spares_earlier_keys_the_more_the_heavier_they_are():
    basis, key, value, past = torch.eye(D, dtype=torch.float64), drawn(0, 1, D), drawn(1, 1, OUT), drawn(2, D, 1)
    moved = [
        float(torch.linalg.norm(projected(basis, weight * past @ past.T, key, value, 1e-3) @ past))
        for weight in (0.0, 1.0, 1e4)
    ]
    assert moved[0] > moved[1] > moved[2]
    assert moved[2] < 1e-2 * moved[0]


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, 2), (1.0, 3), (1.1, 4), (100, 7)])
def test_the_null_space_in_units_of_the_median_eigenvalue(threshold: float, kept: int):
    eigenvalues = torch.tensor([0.1, 0.2, 3.0, 4.0, 5.0, 90.0, 399.0], dtype=torch.float64)
    rotation = torch.linalg.qr(drawn(0, D, D)).Q
    basis, unit = null_space(rotation @ eigenvalues.diag() @ rotation.T, threshold, relative=True)
    assert unit == pytest.approx(4.0)
    torch.testing.assert_close(basis @ basis.T, rotation[:, :kept] @ rotation[:, :kept].T)


def test_the_unit_of_a_singular_matrix_is_not_zero():
    preserved = drawn(0, D, 2)
    basis, unit = null_space(preserved @ preserved.T, 1.0, relative=True)
    assert unit > 0
    assert basis.shape == (D, D - 2)
