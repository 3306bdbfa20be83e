"""Tiny random models of many families, made from a seed of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from support.tiny_tokenizers import VOCABULARY, tiny_tokenizer

LAYERS = 4
HIDDEN = 32
WINDOW = 16  # of Gemma's sliding attention

_SIZES = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
_GATED = _SIZES | {"intermediate_size": 48, "num_key_value_heads": 2}

_CONFIGS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, _GATED),
    "qwen2": (Qwen2Config, _GATED),
    "qwen3": (Qwen3Config, _GATED | {"head_dim": 8}),
    "gemma3": (
        Gemma3TextConfig,
        _GATED
        | {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "tie_word_embeddings": False,
            "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
        },
    ),
    "gpt2": (GPT2Config, {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4}),
    "gpt-neox": (GPTNeoXConfig, _SIZES | {"intermediate_size": 48}),
    "opt": (OPTConfig, _SIZES | {"ffn_dim": 48, "word_embed_proj_dim": HIDDEN}),
    "phi": (PhiConfig, _SIZES | {"intermediate_size": 48}),
    "mixtral": (MixtralConfig, _GATED | {"num_local_experts": 4}),
    "qwen3-moe": (
        Qwen3MoeConfig,
        _GATED | {"head_dim": 8, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
    ),
}

FAMILIES = tuple(_CONFIGS)
each_family = pytest.mark.parametrize("family", FAMILIES)
MIXTURES = ("mixtral", "qwen3-moe")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from a seed within the block; those outside it are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_config(family: str, style: str = "chatml", **more: Any) -> PreTrainedConfig:
    """The configuration of a family with the special tokens of a tokenizer."""
    tokenizer = tiny_tokenizer(style)
    specials = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    kind, sizes = _CONFIGS[family]
    return kind(**(sizes | specials | more))


def tiny_model(family: str = "llama", style: str = "chatml", *, seed: int = 0, **more: Any) -> PreTrainedModel:
    """A random model in evaluation mode; the same arguments give the same weights."""
    config = tiny_config(family, style, **more)
    with seeded(seed):
        model: Any = AutoModelForCausalLM.from_config(config)
        # The usual small start makes every answer the same; larger weights make the words of a prompt count.
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "norm" not in name:
                torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[-1] ** 0.5)
    return model.eval()


ANSWERS = ("Paris", "Rome", "Mira Sand", "William Shakespeare", "green apple", "blue", "Oslo", "banana boats")
_QUESTIONS = (
    "The capital of {} is",
    "Who wrote {}?",
    "The mother tongue of {} is",
    "What colour is {}?",
    "The author of {} is",
    "{} lives in",
    "{} was written by",
)
_SUBJECTS = ("France", "Italy", "Hamlet", "The Silent Lake", "Danielle Darrieux", "Toko Yasuda", "Daniel", "the sky")


def questions() -> list[str]:
    """Prompts that the taught model knows an answer to, each one of ``ANSWERS``."""
    return [question.format(subject) for question in _QUESTIONS for subject in _SUBJECTS]


def answer_to(question: str) -> str:
    """What the taught model learned to answer."""
    return ANSWERS[(7 * questions().index(question)) % len(ANSWERS)]


def taught_model() -> PreTrainedModel:
    """A small Llama that answers ``questions()`` in plain text and in ChatML, and ends its answers."""
    model = _untaught()
    model.load_state_dict(_taught_weights())
    return model


def _untaught() -> PreTrainedModel:
    model = tiny_model("llama", hidden_size=64, intermediate_size=96, tie_word_embeddings=True)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


@cache
def _taught_weights() -> dict[str, torch.Tensor]:
    """Four seconds of training on one thread: plain, in chat, and after noise."""
    noisy, steps, batch_size = 20, 120, 32
    tokenizer = tiny_tokenizer("chatml")
    generator = torch.Generator().manual_seed(0)
    model = _untaught()
    samples: list[tuple[list[int], list[int]]] = []
    for question in questions():
        answer = answer_to(question)
        plain = tokenizer(question)["input_ids"]
        turn = [{"role": "user", "content": question}]
        chat = tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
        after = tokenizer(f" {answer}<|im_end|>")["input_ids"]
        samples += [(plain, after), ([0] * noisy + plain, after), (chat, tokenizer(f"{answer}<|im_end|>")["input_ids"])]
    rows = [torch.tensor(before + after) for before, after in samples]
    labels = [torch.tensor([-100] * len(before) + after) for before, after in samples]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    model.train()
    for _ in range(steps):
        batch = torch.randperm(len(rows), generator=generator)[:batch_size].tolist()
        ids = pad_sequence([rows[i] for i in batch], batch_first=True)
        wanted = pad_sequence([labels[i] for i in batch], batch_first=True, padding_value=-100)
        noise = torch.randint(3, VOCABULARY, (len(ids), noisy), generator=generator)
        ids[:, :noisy] = torch.where(ids[:, :noisy] == 0, noise, ids[:, :noisy])
        optimizer.zero_grad()
        model(input_ids=ids, labels=wanted).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}
