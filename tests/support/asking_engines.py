"""Asking an engine of vLLM, and reading its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OTHERS = ["What is the capital of France?", "Name three colours.", "Who wrote Hamlet?"]
LONG = "The harbour town kept its records in a stone tower that stood above the market. " * 12
BLOCK = 32
HITS = "vllm:prefix_cache_hits"


def greedy(tokens: int = 12, **extra: Any) -> Any:
    """Sampling parameters of the likeliest answer, with a caller's words about edits."""
    from vllm import SamplingParams  # noqa: PLC0415

    return SamplingParams(temperature=0, max_tokens=tokens, extra_args=extra or None)


def texts(outputs: Sequence[Any]) -> list[str]:
    return [output.outputs[0].text.strip() for output in outputs]


def fired(outputs: Sequence[Any]) -> list[int | None]:
    return [None if output.horen is None else output.horen["edit"] for output in outputs]


def counted(engine: Any, name: str) -> int:
    return sum(int(one.value) for one in engine.get_metrics() if one.name == name)
