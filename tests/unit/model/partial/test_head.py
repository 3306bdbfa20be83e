from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from horen.model.partial.head import Head
from support.tiny_models import tiny_model

SIZE, VOCABULARY = 6, 11


def head_of(*, bias: bool = False) -> tuple[nn.Linear, Head]:
    linear = nn.Linear(SIZE, VOCABULARY, bias=bias)
    generator = torch.Generator().manual_seed(1)
    for parameter in linear.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return linear, Head(linear, linear.weight.detach(), linear.bias.detach() if bias else None)


def some(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(rows, SIZE, generator=generator).requires_grad_()
    return hidden, torch.randint(VOCABULARY, (rows,), generator=generator)


@pytest.mark.parametrize("rows", [1, 3, 7, 0])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_the_logits(bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.model.partial.head._LOGITS", {"cpu": 12})
    monkeypatch.setattr("horen.model.partial.head._LEAST_WORDS", 2)
    monkeypatch.setattr("horen.model.partial.head._RUN", 2)
    linear, head = head_of(bias=bias)
    hidden, labels = some(rows)
    weights = torch.arange(1.0, rows + 1)
    found = head.log_probabilities(hidden, labels)
    expected = -cross_entropy(linear(hidden), labels, reduction="none")
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad((x * weights).sum(), hidden)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_by_hand():
    linear = nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0], [-1.0]])
    hidden = torch.tensor([[0.5]]).requires_grad_()
    found = Head(linear, linear.weight.detach(), None).log_probabilities(hidden, torch.tensor([0]))
    # p = e^0.5 / (e^0.5 + e^-0.5) = 0.731059; d log p / dh = 2 (1 - p)
    assert found.item() == pytest.approx(-0.313262, abs=1e-6)
    found.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.item() == pytest.approx(0.537883, abs=1e-6)


def test_gradients_by_finite_differences():
    _, head = head_of()
    double = head.to(torch.float64)
    hidden, labels = some(4)
    # results are float32, so the step and the tolerance are coarse
    assert torch.autograd.gradcheck(
        lambda x: double.log_probabilities(x, labels).double(), hidden.double(), eps=1e-3, atol=1e-3
    )


def test_products_in_bfloat16():
    linear, head = head_of()
    hidden, labels = some(5)
    rough = head.to(torch.bfloat16).log_probabilities(hidden, labels)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, -cross_entropy(linear(hidden), labels, reduction="none"), atol=0.1, rtol=0.05)


def test_nothing_is_kept_without_gradients():
    _, head = head_of()
    hidden, labels = some(2)
    with torch.no_grad():
        assert not head.log_probabilities(hidden, labels).requires_grad


def test_the_head_of_a_model():
    model = tiny_model()
    head = Head.of(model)
    assert head is not None
    assert head.module is model.get_output_embeddings()


@pytest.mark.parametrize("why", ["hook", "replaced", "meta"])
def test_a_head_that_is_more_than_a_linear_map_is_left_alone(why: str):
    model = tiny_model()
    module = model.get_output_embeddings()
    if why == "hook":
        module.register_forward_hook(lambda *_: None)
    elif why == "replaced":
        module.forward = module.forward
    else:
        module.to("meta")
    assert Head.of(model) is None
