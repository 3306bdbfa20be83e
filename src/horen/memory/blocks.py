"""Products of queries with keys, a block of keys at a time, so that each key comes from memory once.

Nothing here knows what a key means. Blocks are as large as a processor's cache takes and as a table of scores may be.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

# A block is used twice (scores, then the read-out), so its keys should still be in the cache the second time.
_CACHED_BYTES = 1 << 20
# Accelerators have no cache of that kind and want large products.
_LARGE_BYTES = 256 << 20
# Most numbers in a table of scores of one block.
_TABLE = 1 << 22
# exp(−2 · 32) is far from underflow.
_KNOWN_PEAK = 32.0
_KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_logger = logging.getLogger(__name__)


class Readout(Protocol):
    """A way to make what :func:`readout` makes."""

    def __call__(self, queries: Tensor, keys: Tensor, *, beta: float, awake: Tensor | None = None) -> Tensor:
        """See :func:`readout`."""


def blocks(keys: Tensor, queries: int) -> Iterator[slice]:
    """Rows of [N, d] keys in order, in parts for a table of ``queries`` rows."""
    size = (_CACHED_BYTES if keys.device.type == "cpu" else _LARGE_BYTES) // (keys.shape[1] * keys.element_size())
    yield from parts(len(keys), max(1, min(size, _TABLE // queries)))


def parts(length: int, size: int) -> Iterator[slice]:
    """0 … length in order, ``size`` at a time."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def readout(queries: Tensor, keys: Tensor, *, beta: float, awake: Tensor | None = None) -> Tensor:
    """r = normalize(Kᵀ softmax(β K q)) in one pass over the keys.

    The softmax is summed up block by block against the greatest exponent so far (Milakov and Gimelshein 2018), or
    against β, which no cosine's exponent exceeds, where float32 holds what lies 2 β below it. Its denominator cancels
    in the normalization. On CUDA one kernel does it all where Triton works (:mod:`horen.memory.kernels`).

    Args:
        queries: [B, d] unit rows.
        keys: [N, d] unit rows of the same dtype.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.

    Returns:
        [B, d] unit rows.
    """
    if keys.device.type == "cuda" and queries.dtype == torch.float32 and keys.dtype in _KERNEL_DTYPES:
        return _fastest(keys.device)(queries, keys, beta=beta, awake=awake)
    return _by_blocks(queries, keys, beta=beta, awake=awake)


@functools.cache
def _fastest(device: torch.device) -> Readout:
    """The kernel if it can be had and is right on this device, else what every device can do."""
    try:
        from horen.memory import kernels  # noqa: PLC0415 - Triton comes with builds of torch for CUDA
    except ImportError:
        return _by_blocks
    draw = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(240, 80, generator=draw), dim=-1).to(device)
    keys, queries = rows[:200], rows[200:]
    try:
        for some in (queries[:1], queries):
            found, expected = (make(some, keys, beta=20.0) for make in (kernels.readout, _by_blocks))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # Whatever a compiler, a driver or the comparison has to say: there is another way.
    except Exception as error:
        _logger.warning("The Triton kernel does not work on %s (%r): torch reads the keys, more slowly.", device, error)
        return _by_blocks
    return kernels.readout


def _by_blocks(queries: Tensor, keys: Tensor, *, beta: float, awake: Tensor | None = None) -> Tensor:
    known = beta <= _KNOWN_PEAK
    peak = queries.new_full((len(queries), 1), beta if known else torch.finfo(queries.dtype).min)
    mixed = torch.zeros_like(queries)
    for part in blocks(keys, len(queries)):
        block = keys[part]
        exponents = (queries @ block.T).mul_(beta)
        if awake is not None:
            exponents.masked_fill_(~awake[part], -torch.inf)
        if not known:
            higher = torch.maximum(peak, exponents.amax(-1, keepdim=True))
            mixed *= torch.exp(peak - higher)
            peak = higher
        mixed += exponents.sub_(peak).exp_() @ block
    # Far below the known peak the squares of a norm would underflow.
    return normalize(mixed / mixed.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(mixed.dtype).tiny), dim=-1)
