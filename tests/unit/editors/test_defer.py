"""DEFER on tiny models: when o answers, what it gives, and how both are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_support import EDITS, FAMILIES, each_family, fed, opened, prompt_logits, same, taught, texts
from torch import Tensor

from horen import Edit
from horen.data import load_bank
from horen.editors.defer import Defer
from horen.editors.defer.gate import Deferral
from horen.model.layout import Layout
from support.editors import EDITED, OTHER, PROMPTS, ids_of, logits, written_by_hand

LAYER = 1


def defer(family: str = "llama", edits: Sequence[Edit] = EDITS, **settings: Any) -> Defer:
    method = opened("defer", family=family, **settings)
    assert isinstance(method, Defer)
    method.edit(edits)
    return method


def gate(method: Defer) -> Deferral:
    found = method._adapter.gate
    assert found is not None
    return found


def always(method: Defer, log_odds: float) -> None:
    """The same o, with a g that does not look at what it is given."""
    g = gate(method)
    method._adapter.install(replace(g, gate=torch.zeros_like(g.gate), gate_bias=torch.full((1,), log_odds)))


def features(method: Defer, prompt: str) -> Tensor:
    return method._features(method.rows([prompt]))


@each_family
def test_where_g_is_zero_the_model_is_bit_identical(family: str):
    method, base = defer(family), opened("none", family=family)
    assert not same(fed(method), fed(base))
    always(method, -1e9)
    assert same(fed(method), fed(base))
    assert not any(route.fired for route in method.routes(PROMPTS))


@each_family
def test_what_g_leaves_to_the_model_is_bit_identical(family: str):
    method, base = defer(family, max_steps=60), opened("none", family=family)
    prompts = [*PROMPTS, *load_bank().unrelated(16)]
    still = [p for p, route in zip(prompts, method.routes(prompts), strict=True) if not route.fired]
    assert len(still) >= 8
    for prompt in still:
        assert torch.equal(prompt_logits(method, prompt), prompt_logits(base, prompt))


@pytest.mark.parametrize("family", FAMILIES)
def test_o_replaces_the_output_at_the_prompts_last_token(family: str):
    method = defer(family)
    always(method, 1e9)
    site = Layout.of(method.model).mlp(LAYER)[1]
    for prompt in (EDITED, OTHER):
        ids = ids_of(prompt)
        change = features(method, prompt) @ gate(method).weight.T + gate(method).bias
        with method.disabled(), written_by_hand(site, {(0, len(ids) - 1): change[0]}, (1, len(ids))):
            wanted = logits(method.model, ids)
        torch.testing.assert_close(prompt_logits(method, prompt), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_o_is_a_linear_layer_where_f_is_one(family: str):
    """f + (o − f) is (W + A) h + c, with W and A the other way round where the model holds W so."""
    method = defer(family)
    down = Layout.of(method.model).down_projection(LAYER)
    assert down is not None
    h = features(method, EDITED)
    with torch.no_grad():
        output: Tensor = down(h)
    weight: Any = down.weight
    whole = (weight if family == "llama" else weight.T) + gate(method).weight
    bias = gate(method).bias + (0 if down.bias is None else down.bias)
    torch.testing.assert_close(output + gate(method).changes(h), h @ whole.T + bias)


def test_g_is_compared_with_the_threshold():
    method = defer()
    for log_odds, fired in ((-0.01, False), (0.01, True)):
        always(method, log_odds)
        assert [route.fired for route in method.routes(PROMPTS)] == [fired] * len(PROMPTS)
    stricter = Deferral(0.9, *gate(method).tensors().values())
    assert torch.tensor(stricter.threshold).sigmoid().item() == pytest.approx(0.9)


def test_an_edit_fires_and_is_answered():
    method = taught("defer", max_steps=150)
    method.edit([Edit(EDITED, "Oslo", ("France has its capital in",))])
    routes = method.routes([EDITED, "France has its capital in"])
    assert [(route.prompt, route.fired) for route in routes] == [(EDITED, True)] * 2
    assert texts(method, [EDITED, "France has its capital in"]) == ["Oslo", "Oslo"]


def test_batches_are_trained_in_turn_from_where_the_last_one_ended():
    together, apart = defer(batch_edits=1), defer(edits=EDITS[:1])
    first = gate(apart)
    apart.edit(EDITS[1:])
    assert all(map(torch.equal, gate(together).tensors().values(), gate(apart).tensors().values()))
    assert not torch.equal(first.weight, gate(apart).weight)


def test_stored_bytes_are_those_of_g_and_o():
    method = defer()
    (read,) = method._adapter.reads.sizes
    written = method._adapter.layout.hidden_size
    assert method.stored_bytes() == 4 * (read + 1 + written * read + written)
