"""The read-out of few queries on a processor in one pass over the keys, compiled by Numba, which this module needs.

The product of a matrix and one vector is limited by memory, and libraries use half of its bandwidth or less. Here each
core walks over a share of the keys in small blocks: products with a block, then its sum by the weights while it is in
the core's own cache.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import normalize

# Keys of a block, which should stay in a core's first cache.
_BLOCK = 16


def readout(queries: Tensor, keys: Tensor, *, beta: float, awake: Tensor | None = None) -> Tensor:
    """r = normalize(Kᵀ softmax(β K q)), what :func:`horen.memory.blocks.readout` gives up to rounding.

    Args:
        queries: [B, d] float32 unit rows on the CPU.
        keys: [N, d] float32 unit rows there.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.

    Returns:
        [B, d] float32 unit rows.
    """
    workers = max(1, min(torch.get_num_threads(), len(keys) // _BLOCK))
    cuts = [len(keys) * worker // workers for worker in range(workers + 1)]
    mixed = np.zeros((workers, *queries.shape))
    peaks = np.full((workers, len(queries)), -np.inf, dtype=np.float32)
    mask = np.ones(0, dtype=np.bool_) if awake is None else awake.numpy()
    given = queries.detach().contiguous().numpy(), keys.detach().contiguous().numpy(), mask, np.float32(beta)

    def share(worker: int) -> None:
        _add_up(*given, cuts[worker], cuts[worker + 1], mixed[worker], peaks[worker])

    # Started anew for every call: a thread takes microseconds, and a pool would not outlive a fork.
    others = [threading.Thread(target=share, args=(worker,)) for worker in range(1, workers)]
    for thread in others:
        thread.start()
    share(0)
    for thread in others:
        thread.join()
    weights = np.exp(peaks - peaks.max(0))
    total = torch.from_numpy(np.einsum("wb,wbd->bd", weights, mixed))
    return normalize(total, dim=-1).to(queries.dtype)


# No flag that forgets infinities: a key that sleeps is one.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _add_up(queries: Any, keys: Any, awake: Any, beta: Any, start: Any, stop: Any, mixed: Any, peaks: Any) -> None:
    """mixed[b] = Σ_i exp(β kᵢ·q_b − peaks[b]) kᵢ over the keys from ``start`` to ``stop``, in float64."""
    size = keys.shape[1]
    scores = np.empty(_BLOCK, np.float32)
    part = np.empty(size, np.float32)
    for first in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - first)
        for row in range(len(queries)):
            highest = np.float32(-np.inf)
            for i in range(count):
                score = np.float32(0)
                for j in range(size):
                    score += queries[row, j] * keys[first + i, j]
                score *= beta
                if len(awake) and not awake[first + i]:
                    score = np.float32(-np.inf)
                scores[i] = score
                highest = max(highest, score)
            if highest == -np.inf:
                continue
            if highest > peaks[row]:
                scale = math.exp(peaks[row] - highest)
                peaks[row] = highest
                for j in range(size):
                    mixed[row, j] *= scale
            part[:] = 0
            for i in range(count):
                weight = np.float32(math.exp(scores[i] - peaks[row]))
                for j in range(size):
                    part[j] += weight * keys[first + i, j]
            for j in range(size):
                mixed[row, j] += part[j]
