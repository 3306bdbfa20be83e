"""Writing values into a layer's output, as one operator that compiled graphs hold: what it writes lies in buffers."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._any = False

    def fill(self, rows: Sequence[int], values: Sequence[Tensor]) -> None:
        """Set what is written; with no rows, nothing is."""
        number = len(rows)
        if number:
            self.rows[:number] = torch.tensor(rows).to(self.rows)
            self.values[:number] = torch.stack(list(values)).to(self.values)
            if self.rows.is_cuda:  # a captured graph writes all rows: the others repeat the first
                self.rows[number:] = self.rows[0].clone()
                self.values[number:] = self.values[0].clone()
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
        old = hidden[rows]
        hidden[rows] = torch.where(count > 0, values if replaces else old + values, old)
        if replaces and residual is not None:
            kept = residual[rows]
            residual[rows] = torch.where(count > 0, torch.zeros_like(kept), kept)
        return
    number = int(count)
    if number:
        some = rows[:number]
        hidden[some] = values[:number] if replaces else hidden[some] + values[:number]
        if replaces and residual is not None:
            residual[some] = 0


def hook(buffers: Buffers, *, replaces: bool) -> Any:
    """Return a forward hook that writes what the buffers hold."""

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden, residual = output if isinstance(output, tuple) else (output, None)
        write(hidden, residual, buffers.rows, buffers.values, buffers.count, replaces)

    return after
