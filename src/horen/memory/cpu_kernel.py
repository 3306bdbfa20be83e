"""The read-out of few queries on a processor in one pass over the keys, compiled by Numba, which this module needs.

The product of a matrix and one vector is limited by memory, and libraries use half of its bandwidth or less. Here each
core walks over a share of the keys in small blocks: products with a block, then its sum by the weights while it is in
the core's own cache.
"""

from __future__ import annotations

import itertools
import math
import threading
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import normalize

# Keys of a block, which should stay in a core's own cache.
_BLOCK = 64
# What a thread takes at a time.
_CHUNK_BYTES = 4 << 20
_MOST_CHUNKS = 64


def readout(
    queries: Tensor, keys: Tensor, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    """r = normalize(Kᵀ softmax(β K q)), what :func:`horen.memory.blocks.readout` gives up to rounding.

    Args:
        queries: [B, d] float32 unit rows on the CPU.
        keys: [N, d] float32 unit rows there.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.
        scores: [B, N] float32, contiguous, where K q is written; or None.

    Returns:
        [B, d] float32 unit rows.
    """
    chunks = min(_MOST_CHUNKS, max(1, keys.nbytes // _CHUNK_BYTES))
    cuts = [len(keys) * chunk // chunks for chunk in range(chunks + 1)]
    mixed = np.zeros((chunks, *queries.shape))
    peaks = np.full((chunks, len(queries)), -np.inf, dtype=np.float32)
    mask = np.ones(0, dtype=np.bool_) if awake is None else awake.numpy()
    table = np.empty((len(queries), 0), dtype=np.float32) if scores is None else scores.numpy()
    given = queries.detach().contiguous().numpy(), keys.detach().contiguous().numpy(), mask, np.float32(beta), table
    # A core may be busy with something else, such as waiting for torch: whoever is ready takes the next chunk.
    ready = itertools.count()

    def work() -> None:
        while (chunk := next(ready)) < chunks:
            _add_up(*given, cuts[chunk], cuts[chunk + 1], mixed[chunk], peaks[chunk])

    # Started anew for every call: a thread takes microseconds, and a pool would not outlive a fork.
    others = [threading.Thread(target=work) for _ in range(min(torch.get_num_threads(), chunks) - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    # Chunk by chunk in their order, so that the same bits come out whoever did what.
    total = torch.from_numpy(np.einsum("cb,cbd->bd", np.exp(peaks - peaks.max(0)), mixed))
    return normalize(total, dim=-1).to(queries.dtype)


# No flag that forgets infinities: a key that sleeps is one.
_compiled = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})


@_compiled
def _products(query: Any, keys: Any, first: Any, scores: Any) -> None:
    """scores[i] = kᵢ·q for as many keys from ``first`` on as there is room for."""
    for i in range(len(scores)):
        score = np.float32(0)
        for j in range(len(query)):
            score += query[j] * keys[first + i, j]
        scores[i] = score


@_compiled
def _add_up(
    queries: Any, keys: Any, awake: Any, beta: Any, table: Any, start: Any, stop: Any, mixed: Any, peaks: Any
) -> None:
    """mixed[b] = Σ_i exp(β kᵢ·q_b − peaks[b]) kᵢ over the keys from ``start`` to ``stop``, in float64."""
    size = keys.shape[1]
    part = np.empty(size, np.float32)
    for first in range(start, stop, _BLOCK):
        scores = np.empty(min(_BLOCK, stop - first), np.float32)
        for row in range(len(queries)):
            _products(queries[row], keys, first, scores)
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
                weight = np.float32(math.exp(scores[i] - peaks[row]))
                for j in range(size):
                    part[j] += weight * keys[first + i, j]
            mixed[row] += part
