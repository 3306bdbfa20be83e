"""Linear maps of frozen weights in products of bytes, which many processors multiply several times as fast.

Weights are rounded to 8 bits output by output, once; what they are multiplied with row by row, as it comes (LLM.int8,
Dettmers et al. 2022, without its outlier columns). Sums of products are exact, in 32 bits. The same holds for the
gradient, whose rows are scaled by the weights' scales first, so that no other rounding is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from horen.model.alone import Forward
from horen.model.linear import frozen_maps

_LARGEST = 127
# Products of two such bytes add up to less than 2³¹ over as many terms.
_MOST_TERMS = 2**17


def int8_maps(parts: Iterable[nn.Module]) -> dict[nn.Module, Forward]:
    """Return what linear maps in some parts that are not trained compute in products of bytes.

    They give what they are given the dtype of, and take a gradient of that alone.
    """
    rows = _Rows()
    return {
        module: Int8Map(module.weight.T if isinstance(module, Conv1D) else module.weight, module.bias, rows)
        for module in frozen_maps(parts)
        if max(module.weight.shape) < _MOST_TERMS
    }


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return [M, K] rows as int8 with the [M, 1] float32 scales that give them back."""
    exact = rows.float()
    scales = exact.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny * _LARGEST) / _LARGEST
    return (exact / scales).round_().to(torch.int8), scales


class _Rows:
    """Rounded rows of what was given last: several maps of a layer are given the same tensor."""

    def __init__(self) -> None:
        self._given: Tensor | None = None
        self._version = 0
        self._found: tuple[Tensor, Tensor] | None = None

    def of(self, given: Tensor) -> tuple[Tensor, Tensor]:
        if self._found is None or given is not self._given or given._version != self._version:
            self._given, self._version = given, given._version
            self._found = rounded(given.detach().reshape(-1, given.shape[-1]))
        return self._found


class Int8Map:
    """One linear map.

    Args:
        weight: [N, K] of any float dtype; it is rounded and not kept.
        bias: [N], or None.
        rows: shared by the maps of a model.
        once: keep one copy of the codes, for maps of which no gradient is asked.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, rows: _Rows | None = None, *, once: bool = False
    ) -> None:
        codes, scales = rounded(weight.detach())
        # A product is fastest with the second matrix's rows in order, so one copy for each direction.
        self._forth, self._scales = codes.T.contiguous(), scales[:, 0]
        self._back = self._forth.T if once else codes
        self._bias = None if bias is None else bias.detach().float()
        self._rows = rows or _Rows()

    def __call__(self, given: Tensor) -> Tensor:
        """Return [..., N] in the dtype of what is given, [..., K]; differentiable."""
        function: Any = _Product
        found: Tensor = function.apply(given, self)
        return found

    def forth(self, given: Tensor) -> Tensor:
        """Return [M, N] float32 of what is given, [..., K] with M rows."""
        codes, scales = self._rows.of(given)
        found = torch._int_mm(codes, self._forth).float().mul_(scales).mul_(self._scales)
        return found if self._bias is None else found.add_(self._bias)

    def back(self, slopes: Tensor) -> Tensor:
        """Return [M, K] float32, the products of [M, N] with the weight."""
        codes, scales = rounded(slopes * self._scales)
        return torch._int_mm(codes, self._back).float().mul_(scales)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, linear: Int8Map) -> Tensor:
        ctx.linear, ctx.shape, ctx.dtype = linear, given.shape, given.dtype
        return linear.forth(given).to(given.dtype).reshape(*given.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        found = ctx.linear.back(slopes[0].reshape(-1, slopes[0].shape[-1]).float())
        return found.to(ctx.dtype).reshape(ctx.shape), None
