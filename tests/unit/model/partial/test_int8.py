"""Linear maps in products of bytes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from horen.model.partial.int8 import Int8Map, int8_maps, rounded
from horen.model.partial.precision import Arithmetic
from support.tails import MIXED, tail_of, values_for
from support.tiny_models import FAMILIES, tiny_model


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_a_rounded_number_is_off_by_half_a_step_at_most(seed: int, rows: int, columns: int, size: float):
    given_rows = size * numbers(rows, columns, seed=seed)
    codes, scales = rounded(given_rows)
    assert codes.dtype == torch.int8
    assert int(codes.abs().max()) == 127
    assert bool(((codes * scales - given_rows).abs() <= 0.501 * scales).all())


def test_rows_of_nothing_stay_nothing():
    codes, scales = rounded(torch.zeros(2, 3))
    assert not codes.any()
    assert bool(scales.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "size", "out"), [((1,), 33, 7), ((2, 3), 64, 96), ((5,), 1, 1), ((3, 4, 2), 17, 130)])
def test_products_of_what_was_rounded_are_exact(
    rows: tuple[int, ...], size: int, out: int, bias: bool, dtype: torch.dtype
):
    linear = nn.Linear(size, out, bias=bias).requires_grad_(False)
    asked = numbers(*rows, size, seed=1).to(dtype).requires_grad_()
    found = int8_maps([linear])[linear](asked)
    codes, scales = rounded(asked.detach().reshape(-1, size))
    weights, sizes = rounded(linear.weight)
    wanted = (codes.double() * scales) @ (weights.double() * sizes).T
    wanted = wanted + (linear.bias.double() if bias else 0)
    assert found.dtype == dtype
    assert found.shape == (*rows, out)
    torch.testing.assert_close(found.double().reshape(-1, out), wanted.to(dtype).double(), atol=1e-5, rtol=1e-2)
    slopes = numbers(*rows, out, seed=2).to(dtype)
    (gradient,) = torch.autograd.grad(found, asked, slopes)
    codes, scales = rounded(slopes.reshape(-1, out).float() * sizes[:, 0])
    wanted = ((codes.double() * scales) @ weights.double()).to(dtype)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.reshape(-1, size), wanted, atol=1e-5, rtol=1e-2)


def test_a_map_whose_weight_lies_the_other_way():
    other = Conv1D(6, 4).requires_grad_(False)
    given_rows = numbers(3, 4)
    torch.testing.assert_close(int8_maps([other])[other](given_rows), other(given_rows), atol=0.02, rtol=0.05)


def test_trained_weights_are_left_alone():
    assert not int8_maps([nn.Linear(2, 2)])


def test_rows_that_were_changed_in_place_are_rounded_anew():
    linear = nn.Linear(8, 4).requires_grad_(False)
    mapped, rows = int8_maps([linear])[linear], numbers(2, 8)
    before = mapped(rows)
    rows.mul_(2)
    torch.testing.assert_close(mapped(rows) - linear.bias, 2 * (before - linear.bias))


def test_maps_of_one_model_round_what_they_share_once(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr("horen.model.partial.int8.rounded", lambda rows: calls.append(len(rows)) or rounded(rows))
    one, two = (nn.Linear(8, 4).requires_grad_(False) for _ in range(2))
    maps = int8_maps([one, two])
    calls.clear()
    rows = numbers(2, 8)
    maps[one](rows)
    maps[two](rows)
    assert calls == [2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tail_in_bytes_is_near_and_does_not_stick(family: str):
    model = tiny_model(family).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tail, values = tail_of(model, MIXED), values_for(MIXED).requires_grad_()
    fast = tail.fast(Arithmetic.INT8)
    assert fast.maps
    assert all(isinstance(one, Int8Map) for one in fast.maps.values())
    exact, real = tail.log_probabilities(values)
    (wanted,) = torch.autograd.grad(exact.sum(), values)
    for one, rows in ((tail.rough(fast), [0, 1, 2, 3]), (tail.rough(fast).keep(torch.tensor([3, 0])), [3, 0])):
        asked = values.detach()[rows].requires_grad_()
        found, which = one.log_probabilities(asked)
        (gradient,) = torch.autograd.grad(found.sum(), asked)
        assert torch.equal(which, real[rows][:, : which.shape[1]])
        torch.testing.assert_close(found, exact[rows][:, : which.shape[1]].detach(), atol=0.3, rtol=0.1)
        # A router whose scores tie may send a token elsewhere.
        slack = 6 if "Router" in str(model) else 1
        assert float((gradient - wanted[rows]).norm()) < 0.1 * slack * float(wanted[rows].norm())
    assert torch.equal(tail.log_probabilities(values)[0], exact)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
