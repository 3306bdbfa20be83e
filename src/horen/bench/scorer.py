"""The one scorer: it runs a method's model on the method's rows, the same way for every method.

It knows neither data sets nor scores; it gives what those are made of: answers, log-probabilities and divergences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.bench.reading import Reading
from horen.editors.interface import Method
from horen.model.batching import batches
from horen.model.contexts import ends_of

Progress = Callable[[int], None]
Divergence = Callable[[Tensor, Tensor], Tensor]


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


@dataclass(frozen=True)
class Moved:
    """What edits did to a prompt.

    Attributes:
        answer: of the edited model.
        base: of the untouched one.
        divergence: of the next token's distribution, the untouched model's first.
    """

    answer: Answer
    base: Answer
    divergence: float


def answers(
    method: Method,
    prompts: Sequence[str],
    *,
    budget: int,
    targets: Mapping[str, Sequence[int]] | None = None,
    batch: int = 32,
    progress: Progress | None = None,
) -> tuple[list[Answer], dict[str, Forced]]:
    """Ask prompts, and score given continuations of some of them.

    Args:
        method: whose model is asked.
        prompts: texts.
        budget: most new tokens of an answer; it stops at its natural end.
        targets: token ids to score, by prompt; at least one each.
        batch: rows run together.
        progress: told how many more are done.

    Returns:
        Answers in the order of the prompts, and scores by prompt.
    """
    rows, known, wanted = method.rows(prompts), _Answering(method, budget), targets or {}
    said: dict[int, Answer] = {}
    scored: dict[str, Forced] = {}
    for numbers, some in _batches(rows, batch):
        reading = Reading(method, some)
        given = {i: wanted[prompts[i]] for i in numbers if prompts[i] in wanted}
        if given:  # rows without a target are given a token whose score nobody looks at
            continued = reading.continued([given.get(i, (0,)) for i in numbers])
            found = {i: _forced(log_p, given[i]) for i, log_p in zip(numbers, continued, strict=True) if i in given}
            scored |= {prompts[i]: one for i, one in found.items()}
        said.update(zip(numbers, known.of(reading), strict=True))
        if progress is not None:
            progress(len(numbers))
    return [said[i] for i in range(len(rows))], scored


def moved(
    method: Method,
    prompts: Sequence[str],
    divergence: Divergence,
    *,
    budget: int,
    known: Mapping[str, Answer] | None = None,
    batch: int = 32,
    progress: Progress | None = None,
) -> list[Moved]:
    """Ask the edited and the untouched model the same prompts.

    Args:
        method: the edited model.
        prompts: texts.
        divergence: of two [n, V] log-probabilities of the next token, the untouched model's first; [n].
        budget: most new tokens of an answer.
        known: answers of the untouched model that need not be asked for again, by prompt.
        batch: rows run together.
        progress: told how many more are done.
    """
    with method.disabled():
        plain = method.rows(prompts)
    rows, answering = method.rows(prompts), _Answering(method, budget)
    base, found = dict(known or {}), {}
    for numbers, some in _batches(rows, batch):
        after = Reading(method, some)
        with method.disabled():
            before = Reading(method, [plain[i] for i in numbers])
            distances = divergence(before.log_p, after.log_p).tolist()
            if any(prompts[i] not in base for i in numbers):
                base = dict(zip((prompts[i] for i in numbers), answering.of(before), strict=True)) | base
        for i, answer, distance in zip(numbers, answering.of(after), distances, strict=True):
            found[i] = Moved(answer, base[prompts[i]], distance)
        if progress is not None:
            progress(len(numbers))
    return [found[i] for i in range(len(rows))]


def answer_rows(method: Method, rows: list[list[int]], *, budget: int, batch: int = 32) -> list[Answer]:
    """Return greedy answers to rows of token ids, in their order."""
    known = _Answering(method, budget)
    found: dict[int, Answer] = {}
    for numbers, some in _batches(rows, batch):
        found.update(zip(numbers, known.of(Reading(method, some)), strict=True))
    return [found[i] for i in range(len(rows))]


def forced_rows(
    method: Method, rows: list[list[int]], targets: Sequence[Sequence[int]], *, batch: int = 16
) -> list[Forced]:
    """Score given continuations of rows of token ids, at least one token for each row."""
    found: dict[int, Forced] = {}
    for numbers, some in _batches(rows, batch):
        continued = Reading(method, some).continued([targets[i] for i in numbers])
        found |= {i: _forced(log_p, targets[i]) for i, log_p in zip(numbers, continued, strict=True)}
    return [found[i] for i in range(len(rows))]


def target_ids(method: Method, target: str) -> list[int]:
    """Return a target as it follows a prompt: a blank before it, no special tokens, no end."""
    return list(method.tokenizer(f" {target}", add_special_tokens=False)["input_ids"])


class _Answering:
    """Turns readings into answers."""

    def __init__(self, method: Method, budget: int) -> None:
        self._tokenizer, self._budget = method.tokenizer, budget
        self._ends = frozenset(ends_of(method.model, method.tokenizer).all)

    def of(self, reading: Reading) -> list[Answer]:
        found = []
        for tokens in reading.greedy(self._budget, self._ends):
            raw = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
            found.append(Answer(raw.strip(), tuple(tokens), len(tokens) >= self._budget, raw))
        return found


def _forced(log_p: Tensor, target: Sequence[int]) -> Forced:
    """From [T, V] log-probabilities."""
    wanted = torch.tensor(target, device=log_p.device)
    chosen = log_p.gather(-1, wanted[:, None])[:, 0]
    return Forced(float(chosen.sum()), tuple((log_p.argmax(-1) == wanted).tolist()))


def _batches(rows: list[list[int]], size: int) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Rows of like length together, with their places in the list."""
    for numbers in batches(rows, size):
        yield numbers, [rows[i] for i in numbers]
