"""Whether a model's answers in continuous batching are its own: asked once, before an engine serves it."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.errors import ModelError
from horen.model.devices import device_of
from horen.serve.engines.continuous.batch import Batch, Own
from horen.serve.engines.continuous.chooser import Draws
from horen.serve.engines.interface import Sampling

_TEXTS = ("The ferry leaves at seven in the morning and comes back before noon.", "Bicycles travel free of charge.")
_TOKENS = 3
# By how much log-probabilities may differ by rounding alone. Tokens that mix with another request's, or do not know
# their places, are off by whole units.
_APART = {torch.float32: 0.02, torch.float64: 0.02}
_APART_IN_HALF = 0.3
_PATIENCE = 120.0  # seconds


def probe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> None:
    """Ask for two answers at once, and compare what each says of its tokens with a plain forward pass.

    Args:
        model: that is served.
        tokenizer: its own.
        batch: that serves it.

    Raises:
        ModelError: when they differ, or the batch has failed.
    """
    untyped: Any = tokenizer
    rows = {f"probe {number}": list(untyped(text)["input_ids"]) for number, text in enumerate(_TEXTS)}
    room = batch.longest - _TOKENS
    draws = {name: Draws(Sampling(temperature=0.0, logprobs=0)) for name in rows}
    for name, row in rows.items():
        rows[name] = row[: max(1, room // 2)]
        batch.add(name, rows[name], Own(draws[name]), _TOKENS)
    answers: dict[str, list[int]] = {}
    until = time.monotonic() + _PATIENCE
    while len(answers) < len(rows):
        output = batch.result(timeout=0.1)
        if output is not None and output.error is None:
            if output.is_finished():
                answers[output.request_id] = output.generated_tokens
        elif output is not None or not batch.runs_on or time.monotonic() > until:
            why = batch.why or (output.error if output is not None else "no answer came")
            raise ModelError(
                f"{type(model).__name__} does not run in transformers' continuous batching ({why}): serve it with "
                "vLLM, or ask an Editor."
            )
    with batch.paused():
        for name, row in rows.items():
            _compare(model, row, answers[name], [one.logprob for one in draws[name].noted])


def _compare(model: PreTrainedModel, row: list[int], answer: list[int], told: list[float]) -> None:
    untyped: Any = model
    with torch.no_grad():
        logits = untyped(input_ids=torch.tensor([row + answer], device=device_of(model)), use_cache=False).logits
    plain = logits[0, len(row) - 1 : -1].float().log_softmax(-1)
    own = plain.gather(-1, torch.tensor(answer, device=plain.device)[:, None])[:, 0].tolist()
    apart = max(abs(one - other) for one, other in zip(own, told, strict=True))
    if not apart <= _APART.get(model.dtype, _APART_IN_HALF):
        raise ModelError(
            f"{type(model).__name__} answers otherwise in transformers' continuous batching than by itself "
            f"(log-probabilities are {apart:.3f} apart): serve it with vLLM, or ask an Editor."
        )
