"""Part 3: the kernel for CUDA against torch: the same read-outs, and how many times as fast."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gpu.report import Report
from gpu.timing import milliseconds
from horen.memory.search import blocks

_BETA = 20.0
# ‖out − ref‖ / ‖ref‖ against float64.
_ERROR = 1e-4
_CHECKED = 20_000


def check(
    report: Report, device: torch.device, *, keys: list[int], dimensions: list[int], batches: list[int], seconds: float
) -> None:
    """Check the kernel on fresh random keys of every type, then time it."""
    if device.type != "cuda":
        report.skip(f"the kernel runs on CUDA alone, and this is {device.type}")
        return
    kernel: Any = importlib.import_module("horen.memory.search.cuda_kernel")
    for dimension in dimensions:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            table = unit(_CHECKED, dimension, device).to(dtype)
            for batch in dict.fromkeys((1, *batches, 40)):
                # Every kind is compiled, which takes a second.
                for masked in (False, True) if dtype == torch.float32 else (False,):
                    found = correct(kernel, unit(batch, dimension, device), table, masked=masked)
                    told = {"dimension": dimension, "dtype": str(dtype), "batch": batch, "masked": masked, **found}
                    report.add("checked", told)
                    assert max(found.values()) <= _ERROR, f"The kernel is off: {told}"
    chosen = blocks._kernel("cuda", torch.device("cuda", torch.cuda.current_device()))
    report.note("chosen", chosen is kernel.readout)
    for count in keys:
        for dimension in dimensions:
            table = unit(count, dimension, device)
            for batch in batches:
                queries = unit(batch, dimension, device)
                told = {"keys": count, "dimension": dimension, "batch": batch, **timed(kernel, queries, table, seconds)}
                report.add("timed", told)
            del table


def unit(count: int, dimension: int, device: torch.device) -> Tensor:
    """Return [count, dimension] random unit rows."""
    rows = torch.randn(count, dimension, device=device)
    return torch.div(rows, rows.norm(dim=-1, keepdim=True), out=rows)


def correct(kernel: Any, queries: Tensor, keys: Tensor, *, masked: bool) -> dict[str, float]:
    """Return the errors of read-out and scores against float64; what is not written stays no number and shows."""
    awake = torch.rand(len(keys), device=keys.device) < 0.5 if masked else None
    scores = torch.full((len(queries), len(keys)), torch.nan, device=keys.device)
    made = kernel.readout(queries, keys, beta=_BETA, awake=awake, scores=scores)
    exact = keys.double()
    products = queries.double() @ exact.T
    weighed = products * _BETA
    if awake is not None:
        weighed = weighed.masked_fill(~awake, -torch.inf)
    expected = normalize(torch.softmax(weighed, dim=-1) @ exact, dim=-1)
    return {"readout": _off(made, expected), "scores": _off(scores, products)}


def _off(made: Tensor, expected: Tensor) -> float:
    """Return ‖made − expected‖ / ‖expected‖; infinite where something is no number."""
    error = float((made.double() - expected).norm() / expected.norm())
    return error if error == error else float("inf")


def timed(kernel: Any, queries: Tensor, keys: Tensor, seconds: float) -> dict[str, Any]:
    """Return the times of both ways in milliseconds, and their ratio."""
    scores = queries.new_empty(len(queries), len(keys))
    ways = {"kernel": kernel.readout, "torch": blocks._by_blocks}
    found = {
        name: milliseconds([lambda make=make: make(queries, keys, beta=_BETA, scores=scores)], keys.device, seconds)
        for name, make in ways.items()
    }
    return {**found, "times_as_fast": found["torch"]["ms"] / found["kernel"]["ms"]}
