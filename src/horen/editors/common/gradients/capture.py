"""Inputs of linear modules and gradients with respect to their outputs, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from horen.editors.common.gradients.linear import Linear
from horen.editors.common.samples import summed_losses, target_labels
from horen.errors import ModelError
from horen.model.padding import left_padded
from horen.model.partial.tail import Sample

_BATCH = 16
# A power of two, so that it is taken out again exactly; without it small gradients vanish in half precision.
_HALF_SCALE = 1024.0


@dataclass(frozen=True)
class Captured:
    """Pairs (h, δ) of N tokens, all tokens of one sample after those of another.

    Attributes:
        inputs: for each module [N, d_in] float32, what it was given.
        gradients: for each module [N, d_out] float32, ∂L/∂(its output); hᵀδ summed over tokens is ∂L/∂A.
        sample: [N] int64, number of the sample that a token belongs to.
        asked: [N] bool, whether a target token is predicted at this token.
        losses: [B] float32, L = −log p(target | prompt) of each sample in nats.
    """

    inputs: list[Tensor]
    gradients: list[Tensor]
    sample: Tensor
    asked: Tensor
    losses: Tensor


def capture(model: PreTrainedModel, linears: Sequence[Linear], samples: Sequence[Sample]) -> Captured:
    """Run samples forth and back through a frozen model; the weights are not touched.

    Args:
        model: in evaluation mode.
        linears: the modules, each used once in a forward call.
        samples: B ≥ 1 prompts with their targets; a sample's gradients are those of its own loss.

    Raises:
        ModelError: when a loss or gradient is not finite.
    """
    parts = [_capture(model, linears, samples[start : start + _BATCH]) for start in range(0, len(samples), _BATCH)]
    found = Captured(
        inputs=[torch.cat(tensors) for tensors in zip(*(part.inputs for part in parts), strict=True)],
        gradients=[torch.cat(tensors) for tensors in zip(*(part.gradients for part in parts), strict=True)],
        sample=torch.cat([part.sample + _BATCH * place for place, part in enumerate(parts)]),
        asked=torch.cat([part.asked for part in parts]),
        losses=torch.cat([part.losses for part in parts]),
    )
    if not all(bool(tensor.isfinite().all()) for tensor in (found.losses, *found.inputs, *found.gradients)):
        raise ModelError(
            f"The loss of these edits or its gradients are not finite in {model.dtype}: load the model in float32."
        )
    return found


def _capture(model: PreTrainedModel, linears: Sequence[Linear], samples: Sequence[Sample]) -> Captured:
    ids, mask, positions = left_padded([(*s.prompt, *s.target[:-1]) for s in samples], model)
    labels = target_labels(samples, ids.shape[1]).to(ids.device)
    inputs: list[Tensor] = []
    probes: list[Tensor] = []

    def probe(_module: nn.Module, given: Any, output: Tensor) -> Tensor:
        # Adding nothing leaves the output as it is, and what is added has the output's gradient.
        added = torch.zeros_like(output, requires_grad=True)
        inputs.append(given[0].detach())
        probes.append(added)
        return output + added

    untyped: Callable[..., Any] = model
    with ExitStack() as stack, torch.enable_grad():
        for linear in linears:
            stack.callback(linear.module.register_forward_hook(probe).remove)
        out = untyped(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        losses = summed_losses(out.logits, labels)
        scale = _HALF_SCALE if model.dtype == torch.float16 else 1.0
        slopes = torch.autograd.grad(losses.sum() * scale, probes)
    real = mask.bool().flatten()
    sample = torch.arange(len(samples), device=ids.device)[:, None].expand(ids.shape).flatten()
    return Captured(
        inputs=[_tokens(tensor, real) for tensor in inputs],
        gradients=[_tokens(tensor, real) / scale for tensor in slopes],
        sample=sample[real],
        asked=(labels >= 0).flatten()[real],
        losses=losses.detach(),
    )


def _tokens(tensor: Tensor, real: Tensor) -> Tensor:
    """[N, d] float32 of the real tokens, whether the module kept the batch apart or flattened it."""
    return tensor.reshape(len(real), -1)[real.to(tensor.device)].float()
