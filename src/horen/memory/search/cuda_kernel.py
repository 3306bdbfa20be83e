"""The read-out on CUDA in one pass over the keys, as a Triton kernel; importing this module needs Triton.

Each program walks over a share of the keys, a block at a time: it multiplies the block with the queries, and adds it up
by the weights while the block is still in the accelerator's cache; the shares are put together in the end, as
FlashDecoding (Dao et al. 2023) does it for attention.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.keys import Int8Keys, Keys

# A block is read twice, the second time from the cache, which the blocks of all programs share.
_BLOCK_BYTES = 128 << 10
_MOST_KEYS, _LEAST_KEYS = 64, 16  # of a block; tl.dot wants 16 of everything
_CHUNK = 64
_MOST_QUERIES = 32
# Programs for each multiprocessor, so that one computes while another waits.
_PROGRAMS = 2


def readout(
    queries: Tensor, keys: Keys, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    """Return r = normalize(Kᵀ softmax(β K q)), what :func:`horen.memory.search.blocks.readout` gives up to rounding.

    Args:
        queries: [B, d] float32 unit rows on a CUDA device.
        keys: [N, d] unit rows there, float32, float16, bfloat16 or stored as integers; summed up in float32.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.
        scores: [B, N] float32, contiguous, where K q is written; or None.

    Returns:
        [B, d] float32 unit rows.
    """
    (rows, size), count = queries.shape, len(keys)
    scaled = isinstance(keys, Int8Keys)
    numbers, scales = (keys.numbers, keys.scales) if isinstance(keys, Int8Keys) else (keys, queries)
    numbers, queries = numbers.contiguous(), queries.contiguous()
    wide, tall = tile(rows, size, numbers.element_size())
    programs = min(triton.cdiv(count, tall), _PROGRAMS * _multiprocessors(keys.device))
    mixed = queries.new_zeros(programs, rows, size)
    peaks = queries.new_empty(programs, rows)
    # A kernel starts on the current device, whatever its arguments lie on.
    with torch.cuda.device_of(numbers):  # type: ignore[no-untyped-call]
        _add_up[(programs, triton.cdiv(rows, wide))](
            *(queries, numbers, scales, numbers if awake is None else awake.contiguous().view(torch.uint8)),
            *(mixed if scores is None else scores, mixed, peaks),
            *(beta, rows, count, size, programs),
            QUERIES=wide,
            KEYS=tall,
            CHUNK=_CHUNK,
            MASKED=awake is not None,
            KEPT=scores is not None,
            SCALED=scaled,
        )
    share = torch.exp(peaks - peaks.amax(0))
    total = torch.einsum("pb,pbd->bd", share, mixed)
    # Far below the peak the squares of a norm would underflow.
    return normalize(total / total.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny), dim=-1)


def tile(rows: int, size: int, width: int) -> tuple[int, int]:
    """Return how many queries and keys a program takes at once.

    The queries are B, and the keys have so many numbers of so many bytes.
    """
    tall = min(_MOST_KEYS, triton.next_power_of_2(max(1, _BLOCK_BYTES // (size * width) // 2 + 1)))
    if rows == 1:
        return 1, tall
    return max(16, min(_MOST_QUERIES, triton.next_power_of_2(rows))), max(_LEAST_KEYS, tall)


def _multiprocessors(device: torch.device) -> int:
    # In the interpreter, which the tests use, there is none.
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


@triton.jit  # type: ignore[untyped-decorator]
def _add_up(
    queries: tl.tensor,
    keys: tl.tensor,
    scales: tl.tensor,
    awake: tl.tensor,
    table: tl.tensor,
    mixed: tl.tensor,
    peaks: tl.tensor,
    beta: tl.tensor,
    rows: tl.tensor,
    count: tl.tensor,
    size: tl.tensor,
    programs: tl.tensor,
    QUERIES: tl.constexpr,  # noqa: N803 - compile-time constants, as Triton writes them
    KEYS: tl.constexpr,  # noqa: N803
    CHUNK: tl.constexpr,  # noqa: N803
    MASKED: tl.constexpr,  # noqa: N803
    KEPT: tl.constexpr,  # noqa: N803
    SCALED: tl.constexpr,  # noqa: N803
) -> None:
    """Set mixed[p, b] = Σ_i exp(β kᵢ·q_b − peaks[p, b]) kᵢ over the keys of program p's blocks p, p + P, p + 2 P, …

    Where they are scaled, key i is scales[i] times its row.
    """
    program = tl.program_id(0)
    row = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES)
    column = tl.arange(0, CHUNK)
    peak = tl.full((QUERIES,), -float("inf"), tl.float32)
    for start in range(program * KEYS, count, programs * KEYS):
        key = start + tl.arange(0, KEYS)
        there = key < count
        at = key.to(tl.int64)[:, None] * size
        scores = tl.zeros((KEYS, QUERIES), tl.float32)
        for chunk in range(0, size, CHUNK):
            inside = chunk + column < size
            block = tl.load(keys + at + (chunk + column)[None, :], there[:, None] & inside[None, :], 0.0).to(tl.float32)
            asked = tl.load(
                queries + row[None, :] * size + (chunk + column)[:, None], (row < rows)[None, :] & inside[:, None], 0.0
            )
            if QUERIES == 1:
                scores += tl.sum(block * tl.trans(asked), 1)[:, None]
            else:
                scores += tl.dot(block, asked, input_precision="ieee")
        if SCALED:
            scores *= tl.load(scales + key, there, 0.0)[:, None]
        if KEPT:
            kept = table + row[None, :].to(tl.int64) * count + key[:, None]
            tl.store(kept, scores, there[:, None] & (row < rows)[None, :])
        if MASKED:
            there = there & (tl.load(awake + key, there, 0) != 0)
        scores = tl.where(there[:, None], scores * beta, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 0))
        # While all keys slept there is nothing to scale, and −inf less −inf is no number.
        known = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp(scores - known[None, :])
        scale = tl.exp(peak - known)
        peak = higher
        if SCALED:
            weights *= tl.load(scales + key, key < count, 0.0)[:, None]
        for chunk in range(0, size, CHUNK):
            inside = chunk + column < size
            block = tl.load(keys + at + (chunk + column)[None, :], (key < count)[:, None] & inside[None, :], 0.0)
            place = mixed + (program * rows + row)[:, None].to(tl.int64) * size + (chunk + column)[None, :]
            mine = (row < rows)[:, None] & inside[None, :]
            if QUERIES == 1:
                added = tl.sum(weights * block.to(tl.float32), 0)[None, :]
            else:
                added = tl.dot(tl.trans(weights), block.to(tl.float32), input_precision="ieee")
            tl.store(place, tl.load(place, mine, 0.0) * scale[:, None] + added, mine)
        # What a thread has stored another may load in the next round.
        tl.debug_barrier()
    tl.store(peaks + program * rows + row, peak, row < rows)
