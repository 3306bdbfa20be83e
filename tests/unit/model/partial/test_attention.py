from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import BloomConfig, BloomForCausalLM

from horen.model.partial import attention
from horen.model.partial.attention import PrefixCache, apart, attend, configurations
from support.tiny_models import tiny_model

Prefixed = tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]
BATCH, HEADS, SHARED, PAST, NEW, SIZE = 2, 6, 2, 5, 3, 4


def tensors(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)

    def make(heads: int, length: int) -> Tensor:
        return torch.randn(BATCH, heads, length, SIZE, generator=generator).to(dtype)

    return make(HEADS, NEW), make(SHARED, NEW), make(SHARED, NEW), make(SHARED, PAST), make(SHARED, PAST)


def mask() -> Tensor:
    allowed = torch.ones(BATCH, 1, NEW, PAST + NEW, dtype=torch.bool).tril(PAST)
    allowed[1, ..., :2] = False  # the second row is padded on the left
    return allowed


def expected(query: Tensor, key: Tensor, value: Tensor, old: tuple[Tensor, Tensor], scale: float | None) -> Tensor:
    repeated = [torch.cat(pair, 2).repeat_interleave(HEADS // SHARED, 1) for pair in ((old[0], key), (old[1], value))]
    return scaled_dot_product_attention(query, *repeated, attn_mask=mask(), scale=scale).transpose(1, 2)


@pytest.fixture
def prefixed() -> Iterator[Prefixed]:
    query, key, value, old_key, old_value = tensors()
    cache = PrefixCache({4: (old_key, old_value)})
    assert cache.update(key, value, 4) == (key, value)
    assert cache.get_seq_length() == PAST
    token = attention._current.set(cache)
    yield query, key, value, (old_key, old_value)
    attention._current.reset(token)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_it_is_attention_to_both_at_once(prefixed: Prefixed, scale: float | None):
    query, key, value, old = prefixed
    found, weights = attend(SimpleNamespace(), query, key, value, mask(), scaling=scale)
    assert weights is None
    torch.testing.assert_close(found, expected(query, key, value, old, scale))


@pytest.mark.parametrize("unknown", [{}, {"cap": 1.0}], ids=["apart", "joined"])
def test_a_prefix_of_fewer_bits(prefixed: Prefixed, unknown: dict[str, Any]):
    query, key, value, old = prefixed
    cache = PrefixCache({4: (old[0].bfloat16(), old[1].bfloat16())})
    cache.update(key, value, 4)
    token = attention._current.set(cache)
    module = SimpleNamespace(num_key_value_groups=HEADS // SHARED)
    given = [x.clone().requires_grad_() for x in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = attend(module, *given, mask(), **unknown)
    attention._current.reset(token)
    wanted = expected(query, key, value, old, None)
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    assert all(x.isfinite().all() for x in torch.autograd.grad(found.float().square().sum(), given))


def test_gradients_reach_what_is_new(prefixed: Prefixed):
    given = [x.requires_grad_() for x in prefixed[:3]]
    old = prefixed[3]
    found = attend(SimpleNamespace(), *given, mask())[0]
    ours = torch.autograd.grad(found.square().sum(), given)
    theirs = torch.autograd.grad(expected(*given, old, None).square().sum(), given)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_what_it_does_not_know_goes_to_the_usual_function(prefixed: Prefixed, monkeypatch: pytest.MonkeyPatch):
    query, key, value, _ = prefixed
    seen: dict[str, Any] = {}

    def usual(_module: Any, _query: Tensor, keys: Tensor, values: Tensor, _mask: Tensor, **given: Any) -> Any:
        seen.update(given, shapes=(keys.shape[2], values.shape[2]))
        return query, None

    monkeypatch.setattr(attention, "sdpa_attention_forward", usual)
    attend(SimpleNamespace(), query, key, value, mask(), s_aux=torch.ones(HEADS), sliding_window=4)
    assert seen["shapes"] == (PAST + NEW, PAST + NEW)
    assert torch.equal(seen["s_aux"], torch.ones(HEADS))


def test_the_model_is_as_before_afterwards():
    model = tiny_model()
    configs = configurations(model)
    assert configs
    prefix = {0: (torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8))}
    with apart(configs, prefix):
        assert not configurations(model)
    assert configurations(model) == configs
    with suppress(KeyboardInterrupt), apart(configs, prefix):
        raise KeyboardInterrupt
    assert configurations(model) == configs


def test_models_that_attend_in_their_own_way_are_left_to_it():
    assert not configurations(tiny_model(attn_implementation="eager"))
    assert not configurations(BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=50)))
