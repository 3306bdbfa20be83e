"""Products of queries with keys, a block of keys at a time, so that each key comes from memory once.

Nothing here knows what a key means. Blocks are as large as a processor's cache takes and as a table of scores may be.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.keys import Int8Keys, Keys, KeyStorage, scales_of

# A block is used twice (scores, then the read-out), so its keys should still be in the cache the second time.
_CACHED_BYTES = 1 << 20
# Accelerators have no cache of that kind and want large products.
_LARGE_BYTES = 256 << 20
# Most numbers in a table of scores of one block.
_TABLE = 1 << 22
# exp(−2 · 32) is far from underflow.
_KNOWN_PEAK = 32.0
# With more queries at once products of matrices are as fast as the kernel for processors.
FEW = 16
# With fewer bytes of keys there is nothing to gain by it, and no need to compile it.
_COMPILED_BYTES = 8 << 20
_KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_logger = logging.getLogger(__name__)


class Readout(Protocol):
    """A way to make what :func:`readout` makes."""

    def __call__(
        self,
        queries: Tensor,
        keys: Keys,
        *,
        beta: float,
        awake: Tensor | None = None,
        scores: Tensor | None = None,
    ) -> Tensor:
        """See :func:`readout`."""


def blocks(keys: Keys, queries: int) -> Iterator[slice]:
    """Yield rows of [N, d] keys in order, in parts for a table of ``queries`` rows."""
    size = (_CACHED_BYTES if keys.device.type == "cpu" else _LARGE_BYTES) // (keys.shape[1] * keys.dtype.itemsize)
    yield from parts(len(keys), max(1, min(size, _TABLE // queries)))


def parts(length: int, size: int) -> Iterator[slice]:
    """Yield 0 … length in order, in parts of ``size``."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def table(queries: Tensor, keys: Keys) -> Tensor | None:
    """Return [B, N] for the products of a few queries with all keys, which a search near to them can use; else None."""
    return queries.new_empty(len(queries), len(keys)) if len(queries) <= FEW else None


def readout(
    queries: Tensor, keys: Keys, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    """Return r = normalize(Kᵀ softmax(β K q)) in one pass over the keys.

    The softmax is summed up block by block against the greatest exponent so far (Milakov and Gimelshein 2018), or
    against β, which no cosine's exponent exceeds, where float32 holds what lies 2 β below it. Its denominator cancels
    in the normalization. Kernels do it faster where what they are compiled by is there: Triton on CUDA
    (:mod:`horen.memory.search.cuda_kernel`), and Numba for a few queries on a processor
    (:mod:`horen.memory.search.cpu_kernel`). Arguments and result are those of :func:`horen.memory.aids.readout`.
    """
    make: Readout = _by_blocks
    device, kinds = keys.device, (queries.dtype, keys.dtype)
    if device.type == "cuda" and kinds[0] == torch.float32 and kinds[1] in _KERNEL_DTYPES:
        make = _kernel("cuda", device)
    elif device.type == "cpu" and kinds == (torch.float32, torch.float32) and len(queries) <= FEW:
        make = _kernel("cpu", device) if keys.shape.numel() * keys.dtype.itemsize >= _COMPILED_BYTES else _by_blocks
    return make(queries, keys, beta=beta, awake=awake, scores=scores)


@functools.cache
def _kernel(kind: str, device: torch.device) -> Readout:
    """Return the kernel of this kind if it can be had and is right on this device, else what every device can do."""
    try:
        module = importlib.import_module(f"horen.memory.search.{kind}_kernel")
    except ImportError:
        return _by_blocks
    draw = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(240, 80, generator=draw), dim=-1).to(device)
    queries, numbers = rows[200:], KeyStorage("int8").pack(rows[:200])
    small: Keys = Int8Keys(numbers, scales_of(numbers))
    try:
        for some, keys in ((queries[:1], rows[:200]), (queries, rows[:200]), (queries[:1], small), (queries, small)):
            tables = [some.new_empty(len(some), len(keys)) for _ in range(2)]
            made = [
                make(some, keys, beta=20.0, scores=table)
                for make, table in zip((module.readout, _by_blocks), tables, strict=True)
            ]
            torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=0)
            torch.testing.assert_close(tables[0], tables[1], atol=1e-5, rtol=0)
    # Whatever a compiler, a driver or the comparison has to say: there is another way.
    except Exception as error:
        _logger.warning("The kernel for %s does not work (%r): torch reads the keys, more slowly.", device, error)
        return _by_blocks
    kernel: Readout = module.readout
    return kernel


def _by_blocks(
    queries: Tensor, keys: Keys, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    known = beta <= _KNOWN_PEAK
    peak = queries.new_full((len(queries), 1), beta if known else torch.finfo(queries.dtype).min)
    mixed = torch.zeros_like(queries)
    for part in blocks(keys, len(queries)):
        block = keys[part]
        products = queries @ block.T
        if scores is not None:
            scores[:, part] = products
        exponents = products.mul_(beta)
        if awake is not None:
            exponents.masked_fill_(~awake[part], -torch.inf)
        if not known:
            higher = torch.maximum(peak, exponents.amax(-1, keepdim=True))
            mixed *= torch.exp(peak - higher)
            peak = higher
        mixed += exponents.sub_(peak).exp_() @ block
    # Far below the known peak the squares of a norm would underflow.
    return normalize(mixed / mixed.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(mixed.dtype).tiny), dim=-1)
