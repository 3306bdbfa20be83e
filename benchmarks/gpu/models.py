"""Random models of several families and sizes, a tokenizer for them, and edits: nothing of it is fetched."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from horen import Edit
from horen.data import load_bank

# Llama-3-8B's shape.
LARGE: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
}
SMALL: dict[str, Any] = LARGE | {
    "vocab_size": 6144,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}

_UNKNOWN, _START, _END = "<unk>", "<|im_start|>", "<|im_end|>"
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|> ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
)

_WORDS = 6144
# Wide enough that a word can have a probability of 0.98 among so many.
_HIDDEN = 128
_GATED = {
    "vocab_size": _WORDS,
    "hidden_size": _HIDDEN,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_CONFIGS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, _GATED),
    "qwen3": (Qwen3Config, _GATED | {"head_dim": 16}),
    "gemma3": (
        Gemma3TextConfig,
        _GATED
        | {
            "head_dim": 16,
            "sliding_window": 16,
            "tie_word_embeddings": False,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "gpt2": (GPT2Config, {"vocab_size": _WORDS, "n_embd": _HIDDEN, "n_layer": 4, "n_head": 4}),
    "gpt-neox": (GPTNeoXConfig, {name: size for name, size in _GATED.items() if name != "num_key_value_heads"}),
    "mixtral": (MixtralConfig, _GATED | {"num_local_experts": 4}),
}
FAMILIES = tuple(_CONFIGS)


def word_tokenizer(size: int = _WORDS) -> PreTrainedTokenizerFast:
    """Return a tokenizer of ``size`` whole words: those of the bundled prompts, and made-up ones for the rest.

    A word of it is about as long as a token of a real vocabulary is for words that are in it.
    """
    bank = load_bank()
    texts = [*bank.sentences(), *(name for names in bank.entities.values() for name in names)]
    known = dict.fromkeys(word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text))
    names = [_UNKNOWN, _START, _END, "system", "user", "assistant", "?", *known]
    words = list(dict.fromkeys(names))[:size]
    words += [made_up(number) for number in range(size - len(words))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=_UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token=_UNKNOWN,
        eos_token=_END,
        pad_token=_END,
        additional_special_tokens=[_START, _END],
    )
    made.chat_template = _CHATML
    return made


def made_up(number: int) -> str:
    """Return a word that no language has."""
    return f"zq{number}"


def tiny_model(family: str) -> PreTrainedModel:
    """Return a random model of a family, in evaluation mode; a family always gives the same weights."""
    kind, sizes = _CONFIGS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(kind(**sizes, **_specials()))
        # The usual small start makes every answer the same; larger weights make the words of a prompt count.
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "norm" not in name:
                torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[-1] ** 0.5)
    return model.eval()


def large_model(sizes: dict[str, Any], device: torch.device) -> PreTrainedModel:
    """Return a Llama of these sizes with random bfloat16 weights, made on the device."""
    config = LlamaConfig(**sizes, **_specials(), tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval().requires_grad_(False)


def _specials() -> dict[str, int]:
    return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


@dataclass(frozen=True)
class Fact:
    """An edit, and another wording of its prompt."""

    edit: Edit
    rephrase: str


def facts(count: int, words: int = 1) -> list[Fact]:
    """Return edits of bundled prompts with made-up targets of so many words."""
    groups = load_bank().paraphrases(count)
    draw = random.Random(0)  # noqa: S311 - an order, not a secret
    targets = [" ".join(made_up(draw.randrange(500)) for _ in range(words)) for _ in groups]
    return [Fact(Edit(group[0], target), group[1]) for group, target in zip(groups, targets, strict=True)]


def random_edits(count: int, vocabulary: int, seed: int = 0) -> list[Edit]:
    """Return edits of random words, as long as ZsRE's are in tokens of SmolLM2.

    The first thousand records of ZsRE's training file have prompts of 8 to 15 tokens (first and ninth decile, mean
    11.3) and targets of 1 to 6, the end token apart (mean 3.4).
    """
    draw = random.Random(seed)  # noqa: S311 - edits, not secrets

    def text(length: int) -> str:
        return " ".join(made_up(draw.randrange(vocabulary // 4)) for _ in range(length))

    lengths = (1, 2, 2, 3, 3, 3, 4, 4, 5, 6)
    return [Edit(text(draw.randint(7, 13)) + "?", text(draw.choice(lengths))) for _ in range(count)]
