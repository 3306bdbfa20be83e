"""Training values for the numbers in which they will be stored: what is measured is what will fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from horen.editing.training.values import Objective


class Stored:
    """An objective as a function of values before they are rounded; the gradient passes the rounding as it is.

    So steps add up that are smaller than a rounding (straight-through estimator, Bengio et al. 2013), and an edit has
    converged when its rounded value holds.

    Args:
        objective: of rounded values.
        rounded: of [B, P] values, each row by itself.
    """

    def __init__(self, objective: Objective, rounded: Callable[[Tensor], Tensor]) -> None:
        self._objective, self._rounded = objective, rounded

    def __len__(self) -> int:
        return len(self._objective)

    @property
    def scale(self) -> Tensor:
        """[B] size of the activation that a value is added to."""
        return self._objective.scale

    def keep(self, rows: Tensor) -> Stored:
        """Return the objective of some rows only."""
        return Stored(self._objective.keep(rows), self._rounded)

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, T] log-probabilities and the [B, T] mask of tokens, from [B, P] values."""
        function: Any = _Rounding
        return self._objective.log_probabilities(function.apply(values, self._rounded))


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
        return rounded(values)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
