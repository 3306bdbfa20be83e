"""Samples, values and the whole model beside a tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    GptOssConfig,
    GraniteConfig,
    PreTrainedModel,
)

from horen import HorenConfig
from horen.model.layout import Layout, Site
from horen.model.partial.prefix import Prefixes
from horen.model.partial.tail import Sample, Tail
from support.editors import written_by_hand
from support.tiny_models import HIDDEN, VOCABULARY, seeded

MIXED = [
    Sample((5, 6, 7, 8), (9, 10)),
    Sample((5, 11), (12, 13, 14)),
    Sample(tuple(range(20, 50)), (21,)),  # longer than Gemma's window
    Sample((17,), (18, 19)),
]
ONE_TOKEN = [Sample((30,), (31, 32)), Sample((33,), (34,))]
SHORT = [Sample((5, 6, 7), (8, 9, 10, 11)), Sample((12, 13, 14), (15,))]
_GATED = {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
BATCHES = {"mixed": MIXED, "one token": ONE_TOKEN, "short": SHORT}


def values_for(samples: Sequence[Sample], size: int = HIDDEN, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(len(samples), size, generator=torch.Generator().manual_seed(4))


def site_of(model: PreTrainedModel, layer: int = 2, kind: str = "vector") -> Site:
    return Layout.of(model).write_site(HorenConfig(write_layer=layer, value=kind))


def tail_of(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    layer: int = 2,
    prefixes: Prefixes | None = None,
    kind: str = "vector",
) -> Tail:
    return Tail(model, Layout.of(model), site_of(model, layer, kind), samples, prefixes)


def full(model: PreTrainedModel, sample: Sample, value: Tensor, layer: int = 2, kind: str = "vector") -> Tensor:
    """Log-probabilities of the target by the whole model, with the value at the prompt's end."""
    site = site_of(model, layer, kind)
    ids = torch.tensor([[*sample.prompt, *sample.target]])
    written = {(0, len(sample.prompt) - 1): value}
    with written_by_hand(site.module, written, (1, ids.shape[1]), replace=kind == "state"):
        found = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    return found[len(sample.prompt) - 1 : -1].gather(1, torch.tensor(sample.target)[:, None])[:, 0]


def check(
    model: PreTrainedModel,
    tail: Tail,
    samples: Sequence[Sample],
    values: Tensor,
    layer: int = 2,
    kind: str = "vector",
) -> None:
    found, real = tail.log_probabilities(values)
    assert found.shape == real.shape == (len(samples), max(len(sample.target) for sample in samples))
    assert found.dtype == torch.float32
    assert not found[~real].any()
    for row, sample in enumerate(samples):
        assert int(real[row].sum()) == len(sample.target)
        wanted = full(model, sample, values[row], layer, kind)
        torch.testing.assert_close(found[row][real[row]], wanted, atol=2e-5, rtol=1e-5)


# Families that do something of their own with scores or logits: attention biases, sinks, caps and scales.
UNUSUAL = {
    "bloom": (BloomConfig, {"n_layer": 4, "n_head": 4}),
    "falcon": (FalconConfig, {"num_hidden_layers": 4, "num_attention_heads": 4, "alibi": True}),
    "gpt-oss": (GptOssConfig, _GATED | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
    "gemma2": (Gemma2Config, _GATED | {"head_dim": 8, "sliding_window": 8}),
    "granite": (GraniteConfig, _GATED | {"logits_scaling": 4.0, "attention_multiplier": 0.2}),
    "cohere": (CohereConfig, _GATED | {"logit_scale": 0.25}),
}


def unusual_model(family: str) -> PreTrainedModel:
    kind, sizes = UNUSUAL[family]
    with seeded(0):
        config = kind(vocab_size=VOCABULARY, hidden_size=HIDDEN, pad_token_id=0, **sizes)
        return AutoModelForCausalLM.from_config(config).eval()
