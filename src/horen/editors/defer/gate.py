"""What DEFER learns: the classifier g and the linear layer o. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Deferral:
    """g(h) = σ(wᵀh + b) and o(h) − f(h) = A h + c.

    Attributes:
        probability: what g must reach.
        gate: w, [d_k] float32.
        gate_bias: b, [1].
        weight: A, [d_v, d_k] float32.
        bias: c, [d_v].
    """

    probability: float
    gate: Tensor
    gate_bias: Tensor
    weight: Tensor
    bias: Tensor

    @staticmethod
    def untrained(probability: float, read: int, written: int, device: torch.device) -> Deferral:
        """Return one with g = ½ everywhere and o = f, for features of size d_k and outputs of size d_v."""
        sizes = ((read,), (1,), (written, read), (written,))
        return Deferral(probability, *(torch.zeros(size, device=device) for size in sizes))

    @staticmethod
    def of(probability: float, tensors: Mapping[str, Tensor]) -> Deferral:
        """Make one of what :meth:`tensors` gave. Raises KeyError when one is missing."""
        return Deferral(probability, *(tensors[name] for name in ("gate", "gate_bias", "weight", "bias")))

    @property
    def threshold(self) -> float:
        """Log-odds of ``probability``."""
        return math.inf if self.probability == 1 else math.log(self.probability / (1 - self.probability))

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.gate.device

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def to(self, device: torch.device) -> Deferral:
        """Return the same on a device."""
        return Deferral.of(self.probability, {name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for :meth:`of`."""
        return {"gate": self.gate, "gate_bias": self.gate_bias, "weight": self.weight, "bias": self.bias}

    def scores(self, features: Tensor) -> Tensor:
        """Return the log-odds of g, [B, 1] of [B, d_k] features."""
        return features @ self.gate[:, None] + self.gate_bias

    def changes(self, features: Tensor) -> Tensor:
        """Return o(h) − f(h), [B, d_v] of [B, d_k] features h."""
        return features @ self.weight.T + self.bias
