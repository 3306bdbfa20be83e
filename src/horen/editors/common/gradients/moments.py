"""Mean and spread of vectors that arrive in parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_EPSILON = torch.finfo(torch.float32).eps
# Below this share of the other coordinates' deviation a coordinate has shown nothing but rounding.
_STILL = 1e-6


class Moments:
    """Running mean μ and sum of squared deviations s² of every coordinate (Chan et al. 1983).

    With N vectors known and n new ones of mean z̄, and δ = z̄ − μ:
    μ ← μ + n/(N + n)·δ, s² ← s² + Σ(z − z̄)² + N·n/(N + n)·δ², N ← N + n, and σ = √(s²/(N − 1)).
    The result does not depend on the parts in which vectors arrive. All of it is float64 on the CPU.

    Args:
        size: of a vector.
    """

    def __init__(self, size: int) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.squares = torch.zeros(size, dtype=torch.float64)

    def update(self, rows: Tensor) -> None:
        """Take n ≥ 1 vectors in, [n, size] of any dtype."""
        rows = rows.detach().cpu().double()
        new, mean = len(rows), rows.mean(0)
        total = self.count + new
        shift = mean - self.mean
        self.mean = self.mean + shift * (new / total)
        self.squares = self.squares + (rows - mean).square().sum(0) + shift.square() * (self.count * new / total)
        self.count = total

    @property
    def deviation(self) -> Tensor:
        """σ [size] float64, from the unbiased variance; 0 while fewer than two vectors are known."""
        return (self.squares / (self.count - 1).clamp_min(1)).sqrt()

    def normalised(self, rows: Tensor) -> Tensor:
        """Return (z − μ)/(σ + ε) of [n, size] vectors, in their dtype, on their device; 0 where it never varied.

        While nothing is known vectors stay as they are.
        """
        if not self.count:
            return rows
        deviation = self.deviation
        varies = deviation > _STILL * deviation.square().mean().sqrt()
        scale = varies / (deviation + _EPSILON)
        return (rows - self.mean.to(rows)) * scale.to(rows)

    def to_dict(self) -> dict[str, Tensor]:
        """Return what :meth:`take` takes; the tensors are never written to."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def take(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            KeyError: when a part of it is missing.
            ValueError: when it is of another size.
        """
        parts = saved["count"], saved["mean"], saved["squares"]
        if [part.shape for part in parts] != [self.count.shape, self.mean.shape, self.squares.shape]:
            raise ValueError("running moments of another size")
        self.count, self.mean, self.squares = (part.detach().cpu().double() for part in parts)
