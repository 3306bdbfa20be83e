"""What edits cost an engine, as ratios: requests with and without them take turns, so both see the same machine."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from horen.edits import Edit
from horen.verify.asking import SkippedError
from horen.verify.serving.engine import Engine, Request

_FIRST_TOKENS = 12
_ROUNDS, _BATCH, _TOKENS = 3, 16, 16


def cost(engine: Engine, edits: Collection[Edit], silent: Sequence[str]) -> str:
    """Measure the time to a first token and the throughput of a batch, with edits against without.

    Args:
        engine: with the codebook.
        edits: whose prompts are asked.
        silent: prompts that wake nothing.
    """
    if not edits:
        raise SkippedError("no edit is stored")
    woken = first_token(engine, [edit.prompt for edit in edits])
    unwoken = first_token(engine, silent)
    texts = [edit.prompt for edit in edits]
    rates: list[float] = []
    for _ in range(_ROUNDS):
        with_edits, without = (
            engine.poured([Request(texts[n % len(texts)], _TOKENS, off=off, through=True) for n in range(_BATCH)])
            for off in (False, True)
        )
        rates.append(without[0].seconds / with_edits[0].seconds)
    return (
        f"time to first token ×{woken[0]:.2f} where an edit fires ({1000 * woken[1]:.0f} ms without edits), "
        f"×{unwoken[0]:.2f} where none does; throughput of {_BATCH} at once ×{statistics.median(rates):.2f}"
    )


def first_token(engine: Engine, texts: Sequence[str]) -> tuple[float, float]:
    """Return the median ratio of times to a first token, with edits against without, and the median time without."""
    on: list[float] = []
    off: list[float] = []
    engine.alone([Request(texts[0], 1)])
    for number in range(_FIRST_TOKENS):
        text = texts[number % len(texts)]
        first, second = (Request(text, 1), Request(text, 1, off=True))
        # What is asked second finds the text in the processor's caches: each is as often the first.
        order = (first, second) if number // len(texts) % 2 == 0 else (second, first)
        for request, said in zip(order, engine.alone(order), strict=True):
            (off if request.off else on).append(said.seconds)
    return statistics.median(a / b for a, b in zip(on, off, strict=True)), statistics.median(off)
