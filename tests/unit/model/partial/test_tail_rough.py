"""Tails in bfloat16 arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from horen.model.partial.precision import Arithmetic
from horen.model.partial.prefix import Prefixes
from horen.model.partial.tail import Tail
from support.tails import MIXED, UNUSUAL, full, tail_of, unusual_model, values_for
from support.tiny_models import FAMILIES, tiny_model


def test_in_bfloat16():
    model = tiny_model().to(torch.bfloat16)
    values = values_for(MIXED)
    with torch.no_grad():
        found, real = tail_of(model, MIXED).log_probabilities(values)
        for row, sample in enumerate(MIXED):
            torch.testing.assert_close(found[row][real[row]], full(model, sample, values[row]), atol=0.3, rtol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_cast_once_are_those_that_autocasting_makes_at_every_step(family: str):
    model = tiny_model(family).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tail = tail_of(model, MIXED)
    rough = tail.rough(tail.fast(Arithmetic.BFLOAT16))
    assert rough._cast
    with torch.no_grad():
        found, _ = rough.log_probabilities(values_for(MIXED))
        rough._cast = {}
        expected, _ = rough.log_probabilities(values_for(MIXED))
    assert torch.equal(found, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_rough_variant_is_near_and_does_not_stick():
    model = tiny_model()
    tail, values = tail_of(model, MIXED), values_for(MIXED)
    with torch.no_grad():
        exact, _ = tail.log_probabilities(values)
        rough, _ = in_bfloat16(tail).log_probabilities(values)
        torch.testing.assert_close(rough, exact, atol=0.3, rtol=0.1)
        part, _ = in_bfloat16(tail).keep(torch.tensor([1])).log_probabilities(values[1:2])
        torch.testing.assert_close(part, exact[1:2], atol=0.3, rtol=0.1)
        assert torch.equal(tail.log_probabilities(values)[0], exact)


def in_bfloat16(tail: Tail) -> Tail:
    return tail.rough(tail.fast(Arithmetic.BFLOAT16))


def check_near(model: PreTrainedModel, tail: Tail, rows: Sequence[int] = range(len(MIXED))) -> None:
    """Log-probabilities and gradients are those of full precision but for bfloat16's rounding."""
    # A router whose scores tie may send a token elsewhere.
    slack = 3 if "Router" in str(model) else 1
    given = values_for(MIXED)[list(rows)]
    near, exact = given.clone().requires_grad_(), given.clone().requires_grad_()
    found, real = tail.log_probabilities(near)
    expected, expected_real = tail_of(model, [MIXED[row] for row in rows]).log_probabilities(exact)
    assert found.dtype == torch.float32
    assert torch.equal(real, expected_real)
    torch.testing.assert_close(found, expected, atol=0.1 * slack, rtol=0.02)
    (gradient,) = torch.autograd.grad(found.sum(), near)
    (wanted,) = torch.autograd.grad(expected.sum(), exact)
    assert gradient.isfinite().all()
    assert float((gradient - wanted).norm()) < 0.06 * slack * float(wanted.norm())


def check_rough_prefixes(model: PreTrainedModel) -> None:
    """What trains in bfloat16 has: a tail in either arithmetic after prompts that were read in bfloat16."""
    prefixes = Prefixes(model, [sample.prompt[:-1] for sample in MIXED], reading=Arithmetic.BFLOAT16)
    tail = tail_of(model, MIXED, prefixes=prefixes)
    kept = [3, 0]
    for one in (tail, in_bfloat16(tail)):
        check_near(model, one)
        check_near(model, one.keep(torch.tensor(kept)), kept)
    check_near(model, in_bfloat16(tail.keep(torch.tensor(kept))), kept)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])  # eager layers are given a cache that is joined
@pytest.mark.parametrize("family", FAMILIES)
def test_after_rough_prefixes(family: str, attention: str):
    model = tiny_model(family, attn_implementation=attention)
    check_rough_prefixes(model)


@pytest.mark.parametrize("family", UNUSUAL)
def test_unusual_scores_after_rough_prefixes(family: str):
    check_rough_prefixes(unusual_model(family))
