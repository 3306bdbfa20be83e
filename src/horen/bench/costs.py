"""What edits cost: floating-point operations, time at inference, and retention of what the model could do before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerBase

from horen.bench import scorer
from horen.bench.metrics.retention import perplexity
from horen.editors.interface import Method
from horen.errors import DataError
from horen.model.contexts import ends_of, greedy
from horen.model.padding import left_padded

_WINDOW = 128  # tokens read, and as many scored
_WINDOWS = 32
_ROUNDS = 6
_NEW = 4


def counted(action: Callable[[], object]) -> int:
    """Return the floating-point operations of an action as PyTorch counts them: two for a multiply and add."""
    with FlopCounterMode(display=False) as counter:
        action()
    return int(counter.get_total_flops())


def inference_times(method: Method, prompts: Sequence[str]) -> dict[str, float]:
    """Return the seconds of prefill and of a decoding step with and without the edits, in turn; medians.

    Args:
        method: the edited model.
        prompts: texts to ask one by one, as a user does.
    """
    measured: dict[str, list[float]] = {"prefill": [], "prefill_base": [], "decode": [], "decode_base": []}
    for number in range(_ROUNDS):
        prompt = prompts[number % len(prompts)]
        for suffix in ("", "_base"):
            if suffix:
                with method.disabled():
                    prefill, decode = _times(method, prompt)
            else:
                prefill, decode = _times(method, prompt)
            if number > 1:  # the first rounds warm up
                measured["prefill" + suffix].append(prefill)
                measured["decode" + suffix].append(decode)
    return {name: sorted(times)[len(times) // 2] for name, times in measured.items()}


def held_aside(path: Path) -> str:
    """Read a file of plain text.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}): give a UTF-8 file of plain text.") from error


def windows_of(text: str, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return windows of 256 tokens, spread over a text.

    Raises:
        DataError: when the text is too short for one.
    """
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    size = 2 * _WINDOW
    starts = range(0, len(ids) - size + 1, size)
    if not starts:
        raise DataError(f"The held-aside text has {len(ids)} tokens: give one of at least {size}.")
    step = max(len(starts) // _WINDOWS, 1)
    return [ids[start : start + size] for start in starts[::step][:_WINDOWS]]


def text_perplexity(method: Method, windows: Sequence[list[int]], base: float | None = None) -> dict[str, float]:
    """Return the perplexity of held-aside text, with and without the edits.

    The first half of a window is what a user wrote, the second half is scored, so an edit that fires falsely on the
    first half shows.

    Args:
        method: the edited model.
        windows: see :func:`windows_of`.
        base: the untouched model's perplexity where it is known; it is measured otherwise.
    """
    found = {"tokens": float(len(windows) * _WINDOW), "perplexity": _perplexity(method, windows)}
    if base is None:
        with method.disabled():
            base = _perplexity(method, windows)
    return found | {"perplexity_base": base}


def _perplexity(method: Method, windows: Sequence[list[int]]) -> float:
    pairs = [(window[:_WINDOW], window[_WINDOW:]) for window in windows]
    scored = scorer.forced_rows(method, [read for read, _ in pairs], [rest for _, rest in pairs], batch=4)
    return perplexity(-sum(one.log_likelihood for one in scored), len(pairs) * _WINDOW)


def _times(method: Method, prompt: str) -> tuple[float, float]:
    model: Any = method.model
    ids, mask, _ = left_padded(method.rows([prompt]), method.model)
    ends = ends_of(method.model, method.tokenizer)
    seconds = []
    for new in (1, 1 + _NEW):
        settings = greedy(ends, method.tokenizer, new) | {"eos_token_id": None}
        _synchronise(ids.device)
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=mask, **settings)
        _synchronise(ids.device)
        seconds.append(time.perf_counter() - start)
    return seconds[0], (seconds[1] - seconds[0]) / _NEW


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
