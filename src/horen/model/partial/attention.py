"""Attention of a few new tokens to a prefix that takes no gradient.

A training step asks a handful of tokens about a long prefix that never changes. The usual kernels join the two, repeat
heads that share keys, and compute gradients of all of it. Here the prefix is read where it lies: as scores of its own
beside those of the new tokens, with no gradient and no copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "horen_prefix"
# What the plain softmax attention below knows nothing of, such as capped scores, sinks and biases.
_KNOWN = frozenset({"is_causal", "sliding_window", "position_ids", "cache_position", "use_cache", "output_attentions"})


class PrefixCache(DynamicCache):
    """A cache whose prefix stays apart: layers are handed their new keys and values alone."""

    def __init__(self, prefix: dict[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.prefix = prefix
        self.layer = -1
        # A model reads how long its prefix is off the first layer; one row says it.
        first, _ = next(iter(prefix.values()))
        length = first.new_zeros(1, 1, first.shape[2], 1)
        super().update(length, length, 0)

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Return the new keys and values as they are; :func:`attend` reads those of the prefix."""
        self.layer = layer_idx
        return key_states, value_states


# Of this thread, which contexts are one of. How a model attends is said in its configuration, which threads share, so
# the functions below do what the usual ones do wherever no prefix is set.
_current: ContextVar[PrefixCache | None] = ContextVar("prefix cache", default=None)


def configurations(model: PreTrainedModel) -> list[Any]:
    """Return where :func:`apart` says how ``model`` attends; empty where its layers attend in a way of their own."""
    if not getattr(model, "_supports_attention_backend", False):
        return []
    found = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    usual = all(getattr(config, "_attn_implementation", None) == "sdpa" for config in found.values())
    return list(found.values()) if usual else []


@contextmanager
def apart(configs: Sequence[Any], prefix: dict[int, tuple[Tensor, Tensor]]) -> Iterator[PrefixCache]:
    """Let a model that is given the cache attend to ``prefix`` within the block, without joining it to new tokens.

    Args:
        configs: what :func:`configurations` gave for the model; at least one.
        prefix: keys and values of layers, each [B, heads, P, d].
    """
    cache = PrefixCache(prefix)
    before = [config._attn_implementation for config in configs]
    token = _current.set(cache)
    try:
        for config in configs:
            config._attn_implementation = _NAME
        yield cache
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
        _current.reset(token)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **given: Any,
) -> tuple[Tensor, None]:
    """Compute softmax attention as transformers' attention functions have it.

    Args:
        module: the attention layer.
        query: [B, H, S, d].
        key: [B, K, S, d] of the new tokens, K dividing H.
        value: [B, K, S, d_v].
        attention_mask: [B, 1, S, P + S] bool, true where a token may look.
        scaling: of the scores; d^−½ by default.
        dropout: none in evaluation mode.
        given: what else a family passes; anything unknown goes to transformers' own function.

    Returns:
        [B, S, H, d_v], and no weights.
    """
    cache = _current.get()
    if cache is None:
        usual: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given
        )
        return usual
    old_key, old_value = cache.prefix[cache.layer]
    if any(item is not None for name, item in given.items() if name not in _KNOWN):
        joined = torch.cat([old_key.to(key.dtype), key], 2), torch.cat([old_value.to(value.dtype), value], 2)
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, *joined, attention_mask, scaling=scaling, dropout=dropout, **given
        )
        return output
    batch, heads, new, size = query.shape
    shared, past = key.shape[1], old_key.shape[2]
    asked = query.reshape(batch, shared, heads // shared * new, size)
    scores = torch.cat([asked @ old_key.transpose(-1, -2), asked @ key.transpose(-1, -2)], -1).float()
    scores = scores.reshape(batch, shared, -1, new, past + new) * (size**-0.5 if scaling is None else scaling)
    assert attention_mask is not None  # noqa: S101 - our own mask function skips none
    scores = scores.masked_fill(~attention_mask[:, :, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1).to(value.dtype).reshape(batch, shared, -1, past + new)
    mixed = weights[..., :past] @ old_value + weights[..., past:] @ value
    return mixed.reshape(batch, heads, new, -1).transpose(1, 2).contiguous(), None


def _mask(*args: Any, **kwargs: Any) -> Any:
    whole = {} if _current.get() is None else {"allow_is_causal_skip": False}
    return sdpa_mask(*args, **{**kwargs, **whole})


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, _mask)
