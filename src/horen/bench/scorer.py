"""The one scorer: it runs a method's model on the method's rows, the same way for every method.

It knows neither data sets nor scores; it gives what those are made of: answers, log-probabilities and divergences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from horen.bench.method import Method
from horen.model.contexts import ends_of, greedy
from horen.model.padding import left_padded

# Logits of [rows, vocabulary] in float32: a batch of divergences keeps two of them.
_MOST_LOGITS = 2**24

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Answer:
    """What a model said, greedily, to a prompt.

    Attributes:
        text: the new text, without special tokens and surrounding white space.
        tokens: the new token ids up to, and without, the one that ended the answer.
        cut: whether the budget ended it, not the model.
        raw: the new text as it was decoded, white space and all.
    """

    text: str
    tokens: tuple[int, ...]
    cut: bool
    raw: str


@dataclass(frozen=True)
class Forced:
    """How a model scores a given continuation of a prompt, each of its tokens fed the true ones before.

    Attributes:
        log_likelihood: Σ log p(token), in nats.
        greedy: for each token, whether it was the most likely one.
    """

    log_likelihood: float
    greedy: tuple[bool, ...]


def answers(
    method: Method, prompts: Sequence[str], *, budget: int, batch: int = 32, progress: Progress | None = None
) -> list[Answer]:
    """Greedy answers of at most ``budget`` tokens that stop at the natural end, in the order of the prompts."""
    return answer_rows(method, method.rows(prompts), budget=budget, batch=batch, progress=progress)


def answer_rows(
    method: Method, rows: list[list[int]], *, budget: int, batch: int = 32, progress: Progress | None = None
) -> list[Answer]:
    """Greedy answers to rows of token ids."""
    model: Any = method.model
    known = ends_of(method.model, method.tokenizer)
    ends, settings = known.all, greedy(known, method.tokenizer, budget)
    found: dict[int, Answer] = {}
    for numbers, some in _batches(rows, batch):
        ids, mask, _ = left_padded(some, method.model)
        with torch.inference_mode():
            produced = model.generate(input_ids=ids, attention_mask=mask, **settings)
        for number, new in zip(numbers, produced[:, ids.shape[1] :].tolist(), strict=True):
            stop = next((i for i, token in enumerate(new) if token in ends), None)
            kept = new[:stop]
            raw = str(method.tokenizer.decode(kept, skip_special_tokens=True))
            found[number] = Answer(raw.strip(), tuple(kept), stop is None and len(new) >= budget, raw)
        if progress is not None:
            progress(len(numbers))
    return [found[i] for i in range(len(rows))]


def forced(method: Method, prompts: Sequence[str], targets: Sequence[Sequence[int]]) -> list[Forced]:
    """Score given continuations of prompts; ``targets`` are token ids, at least one for each prompt."""
    return forced_rows(method, method.rows(prompts), targets)


def forced_rows(
    method: Method, rows: list[list[int]], targets: Sequence[Sequence[int]], *, batch: int = 16
) -> list[Forced]:
    """Score given continuations of rows of token ids."""
    found: dict[int, Forced] = {}
    for numbers, some in _batches(rows, batch):
        wanted = [list(targets[i]) for i in numbers]
        for number, log_p, row in zip(numbers, _continued(method, some, wanted), wanted, strict=True):
            chosen = log_p.gather(-1, torch.tensor(row, device=log_p.device)[:, None])[:, 0]
            hits = (log_p.argmax(-1).cpu() == torch.tensor(row)).tolist()
            found[number] = Forced(float(chosen.sum()), tuple(hits))
    return [found[i] for i in range(len(rows))]


def target_ids(method: Method, target: str) -> list[int]:
    """A target as it follows a prompt: a blank before it, no special tokens, no end."""
    return list(method.tokenizer(f" {target}", add_special_tokens=False)["input_ids"])


def divergences(method: Method, prompts: Sequence[str], divergence: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """How far the next-token distribution after each prompt moved from that of the untouched model.

    Args:
        method: the edited model.
        prompts: what is asked.
        divergence: of two [n, V] log-probabilities, the untouched model's first; [n].
    """
    vocabulary = int(method.model.config.get_text_config(decoder=True).vocab_size)
    with method.disabled():
        plain = method.rows(prompts)
    rows = method.rows(prompts)
    found: dict[int, float] = {}
    for numbers, batch in _batches(rows, max(min(32, _MOST_LOGITS // vocabulary), 1)):
        after = _next(method, batch)
        with method.disabled():
            before = _next(method, [plain[i] for i in numbers])
        found.update(zip(numbers, divergence(before, after).tolist(), strict=True))
    return [found[i] for i in range(len(prompts))]


def _continued(method: Method, rows: list[list[int]], targets: list[list[int]]) -> Iterator[Tensor]:
    """[target length, V] log-probabilities for each row."""
    ids, mask, _ = left_padded(rows, method.model)
    most = max(map(len, targets))
    tail = torch.tensor([row + [0] * (most - len(row)) for row in targets], device=ids.device)
    kept = torch.tensor([[1] * len(row) + [0] * (most - len(row)) for row in targets], device=ids.device)
    joined, seen = torch.cat([ids, tail], dim=1), torch.cat([mask, kept], dim=1)
    logits = _logits(method, joined, seen, keep=most + 1)
    for i, row in enumerate(targets):
        yield logits[i, : len(row)].float().log_softmax(-1)


def _next(method: Method, rows: list[list[int]]) -> Tensor:
    """[n, V] log-probabilities of the token that follows each row."""
    ids, mask, _ = left_padded(rows, method.model)
    return _logits(method, ids, mask, keep=1)[:, -1].float().log_softmax(-1)


def _logits(method: Method, ids: Tensor, mask: Tensor, *, keep: int) -> Tensor:
    """[B, keep, V] logits of the last columns, of which all but the first follow the prompt."""
    model: Any = method.model
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp_min(0),
    }
    if "logits_to_keep" in inspect.signature(method.model.forward).parameters:
        inputs["logits_to_keep"] = keep
    with torch.inference_mode(), method.boundary(ids.shape[1] - keep + 1):
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits[:, -keep:]


def _batches(rows: list[list[int]], size: int) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Rows of like length together, with their places in the list."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        yield numbers, [rows[i] for i in numbers]
