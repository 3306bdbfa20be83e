"""Part 4: look-ups against the memory's speed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gpu.report import Report
from gpu.timing import copied_a_second, milliseconds
from horen.memory import Codebook, Gate, Storage

_TOGETHER = 1 << 16
# What a cache may keep of a table is found by no other.
_UNCACHED = 1 << 30
_MOST_SETS = 4


def measure(
    report: Report,
    device: torch.device,
    *,
    keys: list[int],
    dimensions: list[int],
    batches: list[int],
    seconds: float,
    copied: int,
    bandwidth: float,
) -> None:
    """Time look-ups of B queries among N keys, and a plain read of these.

    Args:
        report: takes the findings.
        device: where the keys lie.
        keys: numbers of keys.
        dimensions: of a key.
        batches: numbers of queries.
        seconds: for each time.
        copied: bytes of the copy by which the memory's speed is measured.
        bandwidth: bytes a second that shares are told of too, beside the measured ones.
    """
    rate = copied_a_second(device, copied)
    report.note("memory", {"copied_bytes_a_second": rate, "stated_bytes_a_second": bandwidth})
    for dimension in dimensions:
        for count in keys:
            books = [made(count, dimension, device) for _ in range(_sets(count, dimension))]
            told: dict[str, Any] = {"keys": count, "dimension": dimension, "bytes": books[0].keys.nbytes}
            read = milliseconds([lambda b=book: b.keys.sum() for book in books], device, seconds)
            report.add("reads", told | read | _shares(told["bytes"], read["ms"], rate, bandwidth))
            for batch in batches:
                for steps in (0, 1):
                    one = told | {"batch": batch, "steps": steps}
                    report.add("look_ups", one | looked_up(books, batch, steps, seconds, (rate, bandwidth)))
            del books


def _sets(count: int, dimension: int) -> int:
    return max(1, min(_MOST_SETS, _UNCACHED // (4 * count * dimension)))


def made(count: int, dimension: int, device: torch.device) -> Codebook:
    """Return a codebook of random unit keys."""
    keys = torch.empty(count, dimension, device=device)
    for start in range(0, count, _TOGETHER):
        keys[start : start + _TOGETHER] = normalize(torch.randn_like(keys[start : start + _TOGETHER]), dim=-1)
    book = Codebook(dimension, 1, device=device)
    book.fill(keys, Storage().pack(torch.zeros(count, 1, device=device)), torch.arange(count, device=device))
    return book


def asked(keys: Tensor, batch: int) -> Tensor:
    """Return [batch, d] queries at cosines of about 0.7 to keys drawn by chance."""
    own = keys[torch.randint(len(keys), (batch,), device=keys.device)]
    return normalize(own + normalize(torch.randn_like(own), dim=-1), dim=-1)


def looked_up(
    books: list[Codebook], batch: int, steps: int, seconds: float, rates: tuple[float, float]
) -> dict[str, Any]:
    """Return the times of the retrieval and of what generation asks, and which share of the memory's speed they are.

    Counted is one read of the keys, the least that finds the nearest one exactly.
    """
    gate = Gate(threshold=0.5, contrast=0.4, neighbours=8, alpha=0.1, beta=20.0, steps=steps)
    device, size = books[0].keys.device, books[0].keys.nbytes
    pairs = [(book, asked(book.keys, batch)) for book in books]
    prompts = torch.arange(batch, device=device)
    ways = {
        "retrieval": [lambda b=b, q=q: gate.retrieve(q, b.keys, b.value_of) for b, q in pairs],
        "waking": [lambda b=b, q=q: b.waking(q, gate, prompts=prompts) for b, q in pairs],
    }
    found: dict[str, Any] = {}
    for name, actions in ways.items():
        took = milliseconds(actions, device, seconds)
        found[name] = took | _shares(size, took["ms"], *rates)
    return found


def _shares(size: int, took: float, rate: float, bandwidth: float) -> dict[str, float]:
    speed = size / took * 1e3
    return {"share_of_copy": speed / rate, "share_of_stated": speed / bandwidth}
