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
_LOGITS = {"cpu": 2**22}
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
        found: Tensor = function.apply(hidden, self.weight, self.bias, labels.to(hidden.device))
        return found


class _TargetLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        result = torch.empty(len(hidden), device=hidden.device)
        gradient = torch.empty_like(hidden) if wanted else None
        together = max(_LOGITS.get(hidden.device.type, _LOGITS_ELSEWHERE) // len(weight), 1)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), together):
                part = slice(start, start + together)
                logits = torch.nn.functional.linear(hidden[part].to(weight.dtype), weight, bias).float()
                at = labels[part, None]
                logs = logits.log_softmax(-1)
                result[part] = logs.gather(1, at)[:, 0]
                if gradient is not None:
                    # ∂ log p(t) / ∂ logits = onehot(t) − p
                    slope = logs.exp_().neg_()
                    slope.scatter_add_(1, at, torch.ones_like(at, dtype=slope.dtype))
                    gradient[part] = (slope.to(weight.dtype) @ weight).to(hidden.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return result

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * slopes[0][:, None]).to(gradient.dtype), None, None, None
