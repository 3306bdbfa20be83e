"""Part 6: what a worker of vLLM writes, in a captured graph: the same rows as without one, and what that takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gpu.report import Report
from gpu.timing import milliseconds
from horen.vllm.operator import Buffers, hook

_ROWS = 256


class Layer(nn.Module):
    """Hands on hidden states and a residual, as layers of vLLM's models do."""

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return both."""
        return states * 2, states + 1


def check(report: Report, device: torch.device, *, sizes: list[int], seconds: float) -> None:
    """Check what is written, step after step, for both ways of writing and in two types, then time a step."""
    for size in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            for replaces in (True, False):
                wrong = steps(size, dtype, device, replaces=replaces)
                told = {"size": size, "dtype": str(dtype), "replaces": replaces, "captured": device.type == "cuda"}
                report.add("written", {**told, "wrong rows": wrong})
                assert not wrong, f"Values are written elsewhere: {told}"
        report.add("timed", {"size": size, **timed(size, device, seconds)})


def prepared(size: int, dtype: torch.dtype, device: torch.device, *, replaces: bool) -> tuple[Layer, Buffers]:
    """Return a layer that values are written into, and the buffers that say which."""
    like = torch.empty(0, dtype=dtype, device=device)
    layer, buffers = Layer(), Buffers(_ROWS, size, like)
    layer.register_forward_hook(hook(buffers, replaces=replaces))
    return layer, buffers


def captured(layer: nn.Module, states: Tensor) -> tuple[Callable[[], Any], Callable[[], tuple[Tensor, Tensor]]]:
    """Return what runs a layer on fixed states, in a graph where there are any, and what its last output is."""
    found: list[tuple[Tensor, Tensor]] = []

    def run() -> None:
        found[:] = [layer(states)]

    if states.device.type != "cuda":
        return run, lambda: found[0]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay, lambda: found[0]


def steps(size: int, dtype: torch.dtype, device: torch.device, *, replaces: bool) -> int:
    """Return how many rows are not what they should be, over steps that write many, one and none, of two batches."""
    layer, buffers = prepared(size, dtype, device, replaces=replaces)
    wrong = 0
    for batch in (_ROWS, 8):  # the smaller one comes after rows were named that it does not have
        states = torch.randn(batch, size, device=device, dtype=dtype)
        run, output = captured(layer, states)
        for rows in ([batch - 1, 0], [], list(range(batch)), [3], [], [batch - 1]):
            values = [torch.randn(size, device=device, dtype=dtype) for _ in rows]
            buffers.fill(rows, values)
            run()
            expected = sum(Layer()(states))
            if rows:
                own = torch.stack(values)
                expected[rows] = own if replaces else (states[rows] * 2 + own) + (states[rows] + 1)
            wrong += int((sum(output()) != expected).any(-1).sum())
    return wrong


def timed(size: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """Return the time of a step with the operator that writes nothing, and without it."""
    states = torch.randn(_ROWS, size, device=device, dtype=torch.bfloat16)
    layer, _ = prepared(size, torch.bfloat16, device, replaces=True)
    found = {}
    for name, module in (("with", layer), ("without", Layer())):
        run, _ = captured(module, states)
        found[name] = milliseconds([run], device, seconds)
    return found
