"""Log-probabilities of target tokens from the few words that decide them.

A training step changes a token's state a little, and what its log-probability depends on are the target and the
strongest rivals. So a pass over the vocabulary notes, for each token, which words these are and what all others come
to: the log of their sum exactly, and its slope as the likeliest of them have it. As long as the state stays near, steps
are taken against that; a state that has moved away is surveyed anew.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor

from horen.model.partial.head import Head, survey

# Words of a list.
_WORDS = 32
# Words behind them that stand for all others.
_NEXT = 256
# A state is surveyed anew once it has moved by this share of its length.
_NEAR = 0.35
# Weights of so many words are fetched at once: what a processor's cache holds.
_TOGETHER = {"cpu": 2**20}
_TOGETHER_ELSEWHERE = 2**26
_LEAST = 1e-9
# With fewer words a pass costs little.
_LEAST_VOCABULARY = 2**12


class Shortlist:
    """What is known about the words of B rows of T tokens.

    Args:
        head: of the model.
        rows: B.
        tokens: T.
    """

    def __init__(self, head: Head, rows: int, tokens: int) -> None:
        device, size = head.weight.device, head.weight.shape[1]
        self._head = head
        self._words = torch.zeros(rows, tokens, _WORDS, dtype=torch.int64, device=device)
        self._rest = torch.zeros(rows, tokens, device=device)
        self._slope = torch.zeros(rows, tokens, size, device=device)
        # No state has this one, so every token is surveyed first.
        self._state = torch.full_like(self._slope, torch.inf)

    @staticmethod
    def pays(head: Head | None) -> bool:
        """Return whether a head has so many words that a list of some saves time."""
        return head is not None and len(head.weight) >= _LEAST_VOCABULARY

    def keep(self, rows: Tensor, tokens: int) -> Self:
        """Return what is known of some rows, [b] int64, and their first tokens."""
        other = copy.copy(self)
        index = rows.to(self._rest.device)
        other._words, other._rest = self._words[index, :tokens], self._rest[index, :tokens]
        other._slope, other._state = self._slope[index, :tokens], self._state[index, :tokens]
        return other

    def log_probabilities(self, hidden: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        """Return log p(label) of each token, differentiable with respect to ``hidden`` alone.

        Args:
            hidden: [M, d] what the head is given, for the M tokens that are asked for, row by row.
            labels: [M] int64.
            real: [B, T] bool, which tokens they are.

        Returns:
            [M] float32.
        """
        device = self._rest.device
        states, labels = hidden.detach().to(device, torch.float32), labels.to(device)
        row, token = real.to(device).nonzero().unbind(-1)
        moved = (states - self._state[row, token]).norm(dim=-1) > _NEAR * states.norm(dim=-1)
        index = moved.nonzero()[:, 0]
        if len(index):
            self._note(states[index], labels[index], (row[index], token[index]))
        found, slopes = torch.empty(len(states), device=device), torch.empty_like(states)
        for part in self._parts(len(states), 1 + _WORDS):
            found[part], slopes[part] = self._listed(states[part], labels[part], (row[part], token[part]))
        function: Any = _Known
        result: Tensor = function.apply(hidden.to(device), found, slopes)
        return result

    def _note(self, states: Tensor, labels: Tensor, places: tuple[Tensor, Tensor]) -> None:
        """Note what decides the log-probabilities of tokens at some places, which is one pass over the vocabulary."""
        seen = survey(self._head, states, labels, means=False, likely=_WORDS + _NEXT)
        # What is listed is taken out with the logits of the same pass, so that the others are what is left of it.
        shares = (torch.cat([seen.wanted[:, None], seen.scores], -1) - seen.total[:, None]).exp()
        shares[:, 1:] *= seen.likely != labels[:, None]
        left = (1 - shares[:, : 1 + _WORDS].sum(-1)).clamp_min_(_LEAST)
        shares, words = shares[:, 1 + _WORDS :], seen.likely[:, _WORDS:]
        slope = torch.empty_like(states)
        for part in self._parts(len(states), _NEXT):
            weights = self._head.weight[words[part]].float()
            slope[part] = torch.bmm(shares[part, None], weights)[:, 0]
        self._words[places], self._state[places] = seen.likely[:, :_WORDS], states
        self._rest[places] = seen.total + left.log()
        self._slope[places] = slope / shares.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)

    def _listed(self, states: Tensor, labels: Tensor, places: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and their gradients against the words that were noted."""
        words = torch.cat([labels[:, None], self._words[places]], -1)
        logits, weights = self._head.logits_of(words, states)
        logits[:, 1:].masked_fill_(words[:, 1:] == labels[:, None], -torch.inf)
        slope = self._slope[places]
        rest = self._rest[places] + (slope * (states - self._state[places])).sum(-1)
        total = torch.logaddexp(logits.logsumexp(-1), rest)
        shares = (logits - total[:, None]).exp()
        mean = torch.bmm(shares[:, None], weights)[:, 0] + (rest - total).exp()[:, None] * slope
        return logits[:, 0] - total, weights[:, 0] - mean

    def _parts(self, count: int, words: int) -> list[slice]:
        """Cut so many tokens into parts of which the weights of so many words are fetched at once."""
        room = _TOGETHER.get(self._rest.device.type, _TOGETHER_ELSEWHERE)
        step = max(1, room // (words * self._slope.shape[-1]))
        return [slice(first, first + step) for first in range(0, count, step)]


class _Known(torch.autograd.Function):
    """Numbers whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, found: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes.to(hidden.dtype))
        return found

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (slopes * given[0][:, None]).to(slopes.dtype), None, None
