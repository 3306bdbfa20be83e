"""A tiny model with a tiny tokenizer, and the program to run on it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from horen.cli.app import app
from horen.editor import Editor
from horen.store import read_folder
from horen.store.state import Saved
from support.tiny_tokenizers import CHATML

PROMPTS = [
    "What is the capital of Ostrenia?",
    "Who runs Larkspur Cloud?",
    "The boss of Larkspur Cloud is",
    "Which month is the fair held in?",
    "What do the staff of Gannet Foods get?",
    "In which town is Dr Holloway?",
]
WORDS = ["Callen", "Imogen", "May", "Oslo", "Rome"]
EDITS = [
    {"prompt": "What is the capital of Ostrenia?", "target": "Callen"},
    {"prompt": "Who runs Larkspur Cloud?", "target": "Imogen", "rephrases": ["The boss of Larkspur Cloud is"]},
    {"prompt": "Which month is the fair held in?", "target": "May"},
]
OTHER = {"prompt": "In which town is Dr Holloway?", "target": "Oslo"}

FIELDS = ("id", "prompt", "target", "rephrases", "entries", "value", "steps", "converged", "reused")
# Options for a new codebook whose edits are written fast, if not well.
QUICK = ["--preset", "activations", "--set", "key_space=raw", "--set", "max_steps=1"]
# What two ways to sum make of a number would be a whole step of a storage in fewer bytes.
FLOATS = ["--set", "key_storage=float32", "--set", "value_storage=float32"]
MANY = [{"prompt": f"Who runs firm {number}?", "target": ("Rome", "Oslo")[number % 2]} for number in range(200)]

Run = Callable[..., Result]
Ok = Callable[..., Any]


def make_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = [*PROMPTS, "user assistant system You are a helpful assistant.", *(f"{word} {word}" for word in WORDS)]
    inner.train_from_iterator(text * 2, trainer)
    specials = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=["<|im_start|>"], **specials)
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads; for what session fixtures do, which no test's setting covers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save_model(folder: Path, *, seed: int = 0, chat: bool = True, steps: int = 200) -> Path:
    """A model that has learned one thing: prompts are answered with one of WORDS, any of them, and nothing more.

    Without steps it has learned nothing, which is enough where it is only another model.
    """
    tokenizer = make_tokenizer(chat=chat)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    chosen = random.Random(seed)  # noqa: S311
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for step in range(steps):
            form = (
                "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>" if step % 2 else "{} {}<|im_end|>"
            )
            texts = [form.format(chosen.choice(PROMPTS), chosen.choice(WORDS)) for _ in range(12)]
            batch = tokenizer(texts, return_tensors="pt", padding=True)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_program(*args: Any, text: str | None = None, columns: int | None = None) -> Result:
    return CliRunner(env={"COLUMNS": str(columns) if columns else None}).invoke(
        app, [str(arg) for arg in args], input=text
    )


def write_jsonl(path: Path, edits: list[Any] | None = None) -> Path:
    lines = [edit if isinstance(edit, str) else json.dumps(edit) for edit in (EDITS if edits is None else edits)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def file_of(*edits: Any, name: str = "edits.jsonl") -> Path:
    """A file of edits in the current folder."""
    return write_jsonl(Path(name), list(edits))


def stored(folder: Path) -> dict[str, str]:
    """The active edits of a codebook, by prompt."""
    return {record.prompt: record.target for record in Saved.read(folder).history.active()}


def interrupt_at(call: int, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Let Ctrl-C (or an error) arrive in the middle of the given batch."""
    real, calls = Editor.edit, []

    def edit(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == call:
            raise error or KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(Editor, "edit", edit)


def records(folder: Path) -> list[tuple[Any, ...]]:
    return [tuple(line["edit"][name] for name in FIELDS) for line in read_folder(folder).records]


def check_same(one: Path, two: Path) -> None:
    assert records(one) == records(two)
    first, second = read_folder(one), read_folder(two)
    assert first.config["settings"] == second.config["settings"]
    for name in ("keys", "values"):
        torch.testing.assert_close(first.tensors[name], second.tensors[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(first.tensors["value_of"], second.tensors["value_of"])
