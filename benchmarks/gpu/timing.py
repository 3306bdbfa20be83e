"""Times on a device, and what it can do at most: products a second, and bytes a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

_LEAST_TIMES = 5


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(actions: Sequence[Callable[[], Any]], device: torch.device, seconds: float) -> dict[str, float]:
    """Return the median time of an action and its quartiles, taken for so many seconds.

    Args:
        actions: the same on several inputs, in turn, so that none is found in a cache.
        device: whose events take the time; on a processor its clock.
        seconds: how long to go on, warm-up apart; five times at least.
    """
    for action in (*actions, *actions):
        action()
    wait(device)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _LEAST_TIMES or time.perf_counter() - began < seconds:
        times.append(_once(actions[len(times) % len(actions)], device))
    low, middle, high = statistics.quantiles(times)
    return {"ms": middle, "low_ms": low, "high_ms": high, "times": len(times)}


def _once(action: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        action()
        return 1e3 * (time.perf_counter() - began)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    action()
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def products_a_second(device: torch.device, size: int, seconds: float = 1.0) -> float:
    """Return multiply-adds times two a second of bfloat16 products of large random squares."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / milliseconds([lambda: left @ right], device, seconds)["ms"] * 1e3


def copied_a_second(device: torch.device, size: int, seconds: float = 1.0) -> float:
    """Return bytes read and written a second, of copies of ``size`` bytes on the device."""
    source = torch.randint(255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / milliseconds([lambda: target.copy_(source)], device, seconds)["ms"] * 1e3
