"""Log-probabilities of target tokens without a table of logits.

The logits of one token are as many as the vocabulary, and the usual loss writes them, their softmax and its gradient to
memory in float32. As each token's log-probability depends on its own hidden state alone, its gradient with respect to
that state can be made at once, a part of the vocabulary at a time, while its logits are still in the processor's cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from horen.model.linear import is_plain
from horen.model.partial.int8 import Int8Map

# Logits made at once: as many as stay in a processor's cache, or as fill an accelerator.
_LOGITS = {"cpu": 2**21}
_LOGITS_ELSEWHERE = 2**26
_LEAST_WORDS = 256
# Words whose weights are rounded to bytes together.
_BYTES = 2**12
# Words of which the likeliest is found at once: a whole sort would cost more than the logits.
_RUN = 64


@dataclass(frozen=True)
class Head:
    """A linear output head.

    Attributes:
        module: that makes a model's logits.
        weight: [V, d]; its dtype is that of the products.
        bias: [V], or None.
        codes: the same in bytes, a part of the vocabulary each, for passes over it; empty where products are exact.
    """

    module: nn.Linear
    weight: Tensor
    bias: Tensor | None
    codes: Sequence[Int8Map] = ()

    @staticmethod
    def of(model: PreTrainedModel) -> Head | None:
        """Return the head of ``model``; None where it is more than a linear map in memory."""
        untyped: Any = model
        module = untyped.get_output_embeddings()
        if type(module) is not nn.Linear or not is_plain(module) or module.weight.is_meta:
            return None  # quantized or offloaded
        if "forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks:
            return None  # replaced by somebody
        bias = None if module.bias is None else module.bias.detach()
        return Head(module, module.weight.detach(), bias)

    def to(self, dtype: torch.dtype) -> Self:
        """Return the same with products in ``dtype``."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, weight=self.weight.to(dtype), bias=bias)

    def in_bytes(self) -> Self:
        """Return the same of which a pass over the vocabulary multiplies bytes."""
        starts = range(0, len(self.weight), _BYTES)
        parts = [
            (self.weight[i : i + _BYTES], self.bias if self.bias is None else self.bias[i : i + _BYTES]) for i in starts
        ]
        return replace(self, codes=[Int8Map(weight, bias, once=True) for weight, bias in parts])

    def log_probabilities(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return log p(label) of each token, differentiable with respect to ``hidden`` alone.

        Args:
            hidden: [M, d], what the head is given.
            labels: [M] int64, 0 to V − 1.

        Returns:
            [M] float32.
        """
        function: Any = _TargetLogProbabilities
        device = self.weight.device
        found: Tensor = function.apply(hidden.to(device), self, labels.to(device))
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """Return [M, V] in the dtype of the products, from [M, d]; differentiable."""
        return linear(hidden.to(self.weight), self.weight, self.bias)

    def logits_of(self, words: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return [M, K] float32 logits of some words [M, K] for each of [M, d] states, and [M, K, d] their weights."""
        rows = self.weight[words].float()
        found = torch.bmm(rows, hidden.float()[:, :, None])[:, :, 0]
        return (found if self.bias is None else found + self.bias[words].float()), rows


class _TargetLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, labels: Tensor) -> Tensor:
        found = survey(head, hidden, labels, means=ctx.needs_input_grad[0])
        if found.means is not None:
            # ∂ log p(t) / ∂ logits = onehot(t) − p
            ctx.save_for_backward((head.weight[labels].float() - found.means).to(hidden.dtype))
        return found.wanted - found.total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * slopes[0][:, None]).to(gradient.dtype), None, None


@dataclass(frozen=True)
class Survey:
    """What a pass over the vocabulary tells of M states; all float32 but for the words.

    Attributes:
        wanted: [M] logits of the labels.
        total: [M] log of the sum of all words' exponentials.
        means: [M, d] means of the weights under the softmax, or None.
        likely: [M, K] int64, the likeliest word of each of the K likeliest runs of words.
        scores: [M, K] their logits.
    """

    wanted: Tensor
    total: Tensor
    means: Tensor | None
    likely: Tensor
    scores: Tensor


def survey(head: Head, hidden: Tensor, labels: Tensor, *, means: bool = True, likely: int = 0) -> Survey:
    """Return what one pass over the vocabulary tells, made a part at a time.

    The softmax's sum, and the means over the same words, are put right whenever larger logits turn up (online softmax,
    Milakov and Gimelshein 2018).

    Args:
        head: whose logits are made.
        hidden: [M, d] what the head is given.
        labels: [M] int64.
        means: whether the means of weights are asked for.
        likely: how many likely words are, one at most of each run of 64.
    """
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        top = torch.full((len(hidden), 1), -torch.inf, device=hidden.device)
        total, wanted = torch.zeros_like(top), torch.zeros_like(top)
        pull = torch.zeros_like(hidden, dtype=torch.float32) if means else None
        best: list[Tensor] = []
        for first, logits, mixed in _parts(head, hidden):
            width = logits.shape[1]
            at = labels[:, None] - first
            here = (at >= 0) & (at < width)
            wanted += logits.gather(1, at.clamp(0, width - 1)).masked_fill_(~here, 0)
            if likely:
                best.append(_best(logits, first))
            higher = torch.maximum(top, logits.amax(-1, keepdim=True))
            odds = logits.sub_(higher).exp_()
            shrunk = (top - higher).exp_()
            total.mul_(shrunk).add_(odds.sum(-1, keepdim=True))
            if pull is not None:
                pull.mul_(shrunk).add_(mixed(odds))
            top = higher
        scores = words = top[:, :0]
        if likely:
            scores, words = torch.cat(best, -1).unbind(0)
            scores, places = scores.topk(min(likely, scores.shape[1]), -1)
            words = words.gather(1, places)
        means_of = None if pull is None else pull / total
        return Survey(wanted[:, 0], (top + total.log())[:, 0], means_of, words.long(), scores)


def _best(logits: Tensor, first: int) -> Tensor:
    """Return [2, M, n]: the largest logit of each run of words in a part, and which word it is.

    A run's words lie n apart: those beside each other, such as the digits, are each other's rivals.
    """
    count = logits.shape[1] // _RUN
    most, place = logits[:, : count * _RUN].reshape(len(logits), _RUN, count).max(1)
    return torch.stack([most, place * count + torch.arange(count, device=place.device) + first])


def _parts(head: Head, hidden: Tensor) -> Iterator[tuple[int, Tensor, Callable[[Tensor], Tensor]]]:
    """Yield part by part of the vocabulary the number of its first word, its logits and what mixes its weights.

    The logits are [M, w] float32; what mixes weights takes [M, w] of each word and gives [M, d].
    """
    if head.codes:
        first = 0
        for codes in head.codes:
            logits = codes.forth(hidden)
            yield first, logits, codes.back
            first += logits.shape[1]
        return
    given = hidden.to(head.weight.dtype)
    count, words = len(given), len(head.weight)
    together = max(_LOGITS.get(given.device.type, _LOGITS_ELSEWHERE) // max(count, 1), _LEAST_WORDS)
    width = math.ceil(words / math.ceil(words / together) / _RUN) * _RUN
    # All parts are laid into the same memory: fresh memory of this size costs as much as what is computed in it.
    room = torch.empty(count * width, dtype=given.dtype, device=given.device)
    exact = torch.empty_like(room, dtype=torch.float32)
    for first in range(0, words, width):
        part = head.weight[first : first + width]
        size = count * len(part)
        products = torch.mm(given, part.T, out=room[:size].view(count, len(part)))
        if head.bias is not None:
            products += head.bias[first : first + width]
        logits = exact[:size].view(count, len(part)).copy_(products)
        yield first, logits, functools.partial(_mixed, products, part)


def _mixed(room: Tensor, part: Tensor, odds: Tensor) -> Tensor:
    return room.copy_(odds) @ part
