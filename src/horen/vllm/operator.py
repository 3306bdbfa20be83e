"""Reading activations and writing values, as operators that compiled graphs hold: what they tell lies in buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Buffers(nn.Module):
    """What is written in the step that comes: rows of the flat batch and their values, at fixed addresses.

    Args:
        rows: most rows of a batch.
        size: length d of a state.
        like: of the dtype and on the device of the states.
    """

    rows: Tensor
    values: Tensor
    count: Tensor

    def __init__(self, rows: int, size: int, like: Tensor) -> None:
        super().__init__()
        for name, buffer in (
            ("rows", like.new_zeros(rows, dtype=torch.int64)),
            ("values", like.new_zeros(rows, size)),
            ("count", like.new_zeros(1, dtype=torch.int64)),
        ):
            self.register_buffer(name, buffer, persistent=False)
        #: Whether a captured graph writes all rows, whatever their count: those beyond it then repeat the first.
        self.captured = self.rows.is_cuda
        self._any = False

    def fill(self, rows: Sequence[int], values: Sequence[Tensor]) -> None:
        """Set what is written; with no rows, nothing is."""
        number = len(rows)
        if number:
            self.rows[:number] = torch.tensor(rows).to(self.rows)
            self.values[:number] = torch.stack(list(values)).to(self.values)
            if self.captured:
                self.rows[number:] = self.rows[0].clone()
                self.values[number:] = self.values[0].clone()
        elif self.captured and self._any:  # the batch that comes may have fewer rows than those named here
            self.rows.zero_()
        if number or self._any:
            self.count.fill_(number)
        self._any = bool(number)


@torch.library.custom_op("horen::write", mutates_args=("hidden", "residual"))
def write(
    hidden: Tensor,
    residual: Tensor | None,
    rows: Tensor,
    values: Tensor,
    count: Tensor,
    replaces: bool,
) -> None:
    """Write values [R, d] at rows [R] of a layer's output [N, d], in place.

    Args:
        hidden: what the layer gives.
        residual: what is added to it later, where the layer hands both on.
        rows: of the batch.
        values: one for each.
        count: [1], how many of them are meant; 0 for none.
        replaces: whether a value takes the place of hidden and residual together, or is added to hidden.
    """
    if hidden.is_cuda:  # where asking for the count would wait for the device, and a captured graph never asks
        write_all(hidden, residual, rows, values, count, replaces=replaces)
        return
    number = int(count)
    if number:
        some = rows[:number]
        hidden[some] = values[:number] if replaces else hidden[some] + values[:number]
        if replaces and residual is not None:
            residual[some] = 0


def write_all(
    hidden: Tensor, residual: Tensor | None, rows: Tensor, values: Tensor, count: Tensor, *, replaces: bool
) -> None:
    """Do what :func:`write` does without asking for the count: all rows are written, or none where it is 0."""
    old = hidden[rows]
    hidden[rows] = torch.where(count > 0, values if replaces else old + values, old)
    if replaces and residual is not None:
        kept = residual[rows]
        residual[rows] = torch.where(count > 0, torch.zeros_like(kept), kept)


class Seen(nn.Module):
    """What is read in the step that comes: the activations of the whole flat batch, at fixed addresses.

    Args:
        rows: most rows of a batch.
        size: length d_i of an activation, over all shards.
        like: of the dtype and on the device of the states.
    """

    states: Tensor
    wanted: Tensor

    def __init__(self, rows: int, size: int, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("states", like.new_zeros(rows, size), persistent=False)
        self.register_buffer("wanted", torch.zeros(1, dtype=torch.int64), persistent=False)


# What routes a step's prompts once all is read, by the address of the count that says how many rows are written.
_ROUTES: dict[int, Callable[[], None]] = {}


def routes(buffers: Buffers, route: Callable[[], None]) -> None:
    """Let ``route`` be called in each step just before values are written, so that it can say which."""
    _ROUTES[buffers.count.data_ptr()] = route


@torch.library.custom_op("horen::read", mutates_args=("states",))
def read(hidden: Tensor, residual: Tensor | None, states: Tensor, wanted: Tensor, shards: int) -> None:
    """Keep activations [N, d_i] where any are wanted.

    Args:
        hidden: what a module is given or gives; a shard of it, where there are several.
        residual: what is added to it later, where the layer hands both on.
        states: [R, d], the first N rows of which are filled.
        wanted: [1], in the processor's memory; 0 where nothing of this step is read.
        shards: between how many workers an activation is split.
    """
    if not int(wanted):
        return
    whole = hidden if residual is None else hidden + residual
    if shards > 1:
        whole = _gathered(whole)
    states[: len(whole)] = whole


def _gathered(shard: Tensor) -> Tensor:
    """Return activations [N, d_i] of which each worker has a part."""
    from horen.extras import require  # noqa: PLC0415

    require("vllm", "Activations that workers share need")
    from vllm.distributed import tensor_model_parallel_all_gather  # noqa: PLC0415

    whole: Tensor = tensor_model_parallel_all_gather(shard.contiguous())
    return whole


@torch.library.custom_op("horen::route", mutates_args=("rows", "values", "count"))
def route(states: list[Tensor], rows: Tensor, values: Tensor, count: Tensor) -> None:
    """Say what is written in this step by what was read in it.

    Args:
        states: what was read, for each part.
        rows: see :func:`write`, as those that follow.
        values: likewise.
        count: likewise.
    """
    del states, rows, values  # what is called has them; the graph must know that they are used and changed
    known = _ROUTES.get(count.data_ptr())
    if known is not None:
        known()


def reads(module: nn.Module, side: str, seen: Seen, shards: int) -> None:
    """Let what a module is given ("input") or gives ("output") be kept in buffers."""

    def take(states: Any) -> None:
        hidden, residual = states if isinstance(states, tuple) else (states, None)
        read(hidden, residual, seen.states, seen.wanted, shards)

    if side == "input":
        module.register_forward_pre_hook(lambda _module, inputs: take(inputs[0]))
    else:
        module.register_forward_hook(lambda _module, _inputs, output: take(output))


def hook(buffers: Buffers, *, replaces: bool, seen: Sequence[Seen] = ()) -> Any:
    """Return a forward hook that writes what the buffers hold, or what is told of what was seen."""

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if seen:
            route([one.states for one in seen], buffers.rows, buffers.values, buffers.count)
        hidden, residual = output if isinstance(output, tuple) else (output, None)
        write(hidden, residual, buffers.rows, buffers.values, buffers.count, replaces)

    return after
