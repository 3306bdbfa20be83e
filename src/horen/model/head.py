"""Log-probabilities of target tokens without a table of logits.

The logits of one token are as many as the vocabulary, and the usual loss writes them, their softmax and its gradient to
memory in float32. As each token's log-probability depends on its own hidden state alone, its gradient with respect to
that state can be made at once, a few tokens at a time, while their logits are still in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# Logits made at once: as many as stay in a processor's cache, or as fill an accelerator.
_LOGITS = {"cpu": 2**23}
_LOGITS_ELSEWHERE = 2**26


@dataclass(frozen=True)
class Head:
    """A linear output head.

    Attributes:
        module: that makes a model's logits.
        weight: [V, d]; its dtype is that of the products.
        bias: [V], or None.
    """

    module: nn.Linear
    weight: Tensor
    bias: Tensor | None

    @staticmethod
    def of(model: PreTrainedModel) -> Head | None:
        """The head of ``model``; None where it is more than a linear map in memory."""
        untyped: Any = model
        module = untyped.get_output_embeddings()
        if type(module) is not nn.Linear or module.weight.is_meta or "forward" in module.__dict__:
            return None  # quantized, offloaded, or replaced by somebody
        if module._forward_hooks or module._forward_pre_hooks:
            return None
        bias = None if module.bias is None else module.bias.detach()
        return Head(module, module.weight.detach(), bias)

    def to(self, dtype: torch.dtype) -> Self:
        """The same with products in ``dtype``."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, weight=self.weight.to(dtype), bias=bias)

    def log_probabilities(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """log p(label) of each token, differentiable with respect to ``hidden`` alone.

        Args:
            hidden: [M, d], what the head is given.
            labels: [M] int64, 0 to V − 1.

        Returns:
            [M] float32.
        """
        function: Any = _TargetLogProbabilities
        device = self.weight.device
        found: Tensor = function.apply(hidden.to(device), self.weight, self.bias, labels.to(device))
        return found


class _TargetLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        result = torch.empty(len(hidden), device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        together = max(_LOGITS.get(hidden.device.type, _LOGITS_ELSEWHERE) // len(weight), 1)
        # One room for the logits of all parts: fresh memory of this size costs as much as what is computed in it.
        room = torch.empty(min(together, len(hidden)), len(weight), dtype=weight.dtype, device=hidden.device)
        exact = torch.empty_like(room, dtype=torch.float32) if weight.dtype != torch.float32 else room
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), together):
                part = slice(start, start + together)
                given = hidden[part].to(weight.dtype)
                products = torch.mm(given, weight.T, out=room[: len(given)])
                if bias is not None:
                    products += bias
                logits = exact[: len(given)].copy_(products) if exact is not room else products
                at = labels[part, None]
                wanted = logits.gather(1, at)
                top = logits.amax(-1, keepdim=True)
                odds = logits.sub_(top).exp_()
                total = odds.sum(-1, keepdim=True)
                result[part] = (wanted - top - total.log())[:, 0]
                if gradient is not None:
                    # ∂ log p(t) / ∂ logits = onehot(t) − p
                    odds.scatter_add_(1, at, -total)
                    gradient[part] = (products.copy_(odds) @ weight).float() / -total
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return result

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * slopes[0][:, None]).to(gradient.dtype), None, None, None
