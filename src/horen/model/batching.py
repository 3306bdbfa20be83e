"""Batches of like lengths, which have the least padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized

import torch
from torch import Tensor


def batches(items: Sequence[Sized], size: int) -> Iterator[list[int]]:
    """Yield places of items, the shorter ones first, at most ``size`` at a time.

    The same items give the same batches.
    """
    order = sorted(range(len(items)), key=lambda i: len(items[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def read_in_batches(items: Sequence[Sized], size: int, read: Callable[[list[int]], Tensor]) -> Tensor:
    """Return a row for each of B ≥ 1 items, [B, d] in their order, from a function of the places of a batch."""
    order: list[int] = []
    parts = []
    for batch in batches(items, size):
        order += batch
        parts.append(read(batch))
    found = torch.cat(parts)
    return found[torch.tensor(order).argsort().to(found.device)]
