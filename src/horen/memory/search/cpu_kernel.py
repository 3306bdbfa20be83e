"""Products and read-outs of few queries on a processor, compiled by Numba, which this module needs.

The product of a matrix and one vector is limited by memory, and libraries use half of its bandwidth or less. Here each
core walks over a share of the keys; for a read-out in small blocks: products with a block, then its sum by the weights
while it is in the core's own cache.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.keys import Int8Keys, Keys

# Keys of a block, which should stay in a core's own cache.
_BLOCK = 64
# What a thread takes at a time.
_CHUNK_BYTES = 4 << 20
_MOST_CHUNKS = 64


def readout(
    queries: Tensor, keys: Keys, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    """Return r = normalize(Kᵀ softmax(β K q)), what :func:`horen.memory.search.blocks.readout` gives up to rounding.

    Args:
        queries: [B, d] float32 unit rows on the CPU.
        keys: [N, d] unit rows there, float32 or stored as integers.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.
        scores: [B, N] float32, contiguous, where K q is written; or None.

    Returns:
        [B, d] float32 unit rows.
    """
    scales = keys.scales if isinstance(keys, Int8Keys) else queries.new_empty(0)
    numbers = keys.numbers if isinstance(keys, Int8Keys) else keys
    chunks = _chunks(numbers)
    mixed = np.zeros((chunks, *queries.shape))
    peaks = np.full((chunks, len(queries)), -np.inf, dtype=np.float32)
    mask = np.ones(0, dtype=np.bool_) if awake is None else awake.numpy()
    table = np.empty((len(queries), 0), dtype=np.float32) if scores is None else scores.numpy()
    rows, stored, sizes = (part.detach().contiguous().numpy() for part in (queries, numbers, scales))
    given = rows, stored, sizes, mask, np.float32(beta), table
    _share(len(keys), chunks, lambda chunk, start, stop: _add_up(*given, start, stop, mixed[chunk], peaks[chunk]))
    # Chunk by chunk in their order, so that the same bits come out whoever did what.
    total = torch.from_numpy(np.einsum("cb,cbd->bd", np.exp(peaks - peaks.max(0)), mixed))
    return normalize(total, dim=-1).to(queries.dtype)


def sums(rows: Tensor, table: Tensor) -> Tensor:
    """Return products of [B, d] and [n, d] int8 on the CPU as [B, n] int32, exactly; d < 2¹⁷."""
    # Processors without instructions for bytes multiply pairs of sixteen bits and add them up at once.
    left, right = rows.to(torch.int16).contiguous().numpy(), table.contiguous().numpy()
    found = np.empty((len(rows), len(table)), dtype=np.int32)
    _share(len(table), _chunks(table), lambda _, start, stop: _multiply(left, right, found, start, stop))
    return torch.from_numpy(found)


def _chunks(table: Tensor) -> int:
    return min(_MOST_CHUNKS, max(1, table.nbytes // _CHUNK_BYTES))


def _share(length: int, chunks: int, work: Callable[[int, int, int], None]) -> None:
    """Work on every chunk of so many rows, given its number, its start and its end, by as many threads as torch has."""
    cuts = [length * chunk // chunks for chunk in range(chunks + 1)]
    # A core may be busy with something else, such as waiting for torch: whoever is ready takes the next chunk.
    ready = itertools.count()

    def go() -> None:
        while (chunk := next(ready)) < chunks:
            work(chunk, cuts[chunk], cuts[chunk + 1])

    others = min(torch.get_num_threads(), chunks) - 1
    helpers = [_pool(os.getpid(), others).submit(go) for _ in range(others)]
    go()
    for helper in helpers:
        # One that has not begun by now would find nothing to do.
        if not helper.cancel():
            helper.result()


@functools.lru_cache(maxsize=1)
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads that wait: one that is woken takes a core at once, a new one queues behind what runs there.

    A process that was forked needs its own.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix="horen")


# No flag that forgets infinities: a key that sleeps is one.
_compiled = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})


@_compiled
def _multiply(rows: Any, table: Any, found: Any, start: Any, stop: Any) -> None:
    """Set found[b, i] = rows[b]·table[i] for i from ``start`` to ``stop``."""
    for i in range(start, stop):
        for row in range(len(rows)):
            total = np.int32(0)
            for j in range(rows.shape[1]):
                total += np.int32(rows[row, j]) * np.int32(table[i, j])
            found[row, i] = total


@_compiled
def _products(query: Any, keys: Any, first: Any, scores: Any) -> None:
    """Set scores[i] = kᵢ·q for as many keys, or numbers of them, from ``first`` on as there is room for."""
    for i in range(len(scores)):
        score = np.float32(0)
        for j in range(len(query)):
            score += query[j] * np.float32(keys[first + i, j])
        scores[i] = score


@_compiled
def _mix(weights: Any, keys: Any, first: Any, part: Any) -> None:
    """Add Σᵢ weights[i] kᵢ over keys from ``first`` on to ``part``."""
    whole = len(weights) - len(weights) % 4
    # Four keys at a time: the sum is then fetched and put back a quarter as often.
    for i in range(0, whole, 4):
        one, two, three, four = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        at = first + i
        for j in range(len(part)):
            left = one * np.float32(keys[at, j]) + two * np.float32(keys[at + 1, j])
            part[j] += left + (three * np.float32(keys[at + 2, j]) + four * np.float32(keys[at + 3, j]))
    for i in range(whole, len(weights)):
        for j in range(len(part)):
            part[j] += weights[i] * np.float32(keys[first + i, j])


@_compiled
def _add_up(
    queries: Any,
    keys: Any,
    scales: Any,
    awake: Any,
    beta: Any,
    table: Any,
    start: Any,
    stop: Any,
    mixed: Any,
    peaks: Any,
) -> None:
    """Set mixed[b] = Σ_i exp(β kᵢ·q_b − peaks[b]) kᵢ over the keys from ``start`` to ``stop``, in float64.

    Where there are scales, key i is scales[i] times its row.
    """
    size = keys.shape[1]
    part = np.empty(size, np.float32)
    for first in range(start, stop, _BLOCK):
        scores = np.empty(min(_BLOCK, stop - first), np.float32)
        for row in range(len(queries)):
            _products(queries[row], keys, first, scores)
            if len(scales):
                scores *= scales[first : first + len(scores)]
            if table.shape[1]:
                table[row, first : first + len(scores)] = scores
            scores *= beta
            if len(awake):
                scores[~awake[first : first + len(scores)]] = -np.inf
            highest = scores.max()
            if highest == -np.inf:
                continue
            if highest > peaks[row]:
                mixed[row] *= math.exp(peaks[row] - highest)
                peaks[row] = highest
            part[:] = 0
            for i in range(len(scores)):
                scores[i] = np.float32(math.exp(scores[i] - peaks[row]))
            if len(scales):
                scores *= scales[first : first + len(scores)]
            _mix(scores, keys, first, part)
            mixed[row] += part
