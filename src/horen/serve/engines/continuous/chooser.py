"""Choosing tokens, for each request as it asks, with the log-probabilities that it wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from horen.serve.engines.interface import Sampling

# The likeliest tokens are nearly always among so many, and sorting all takes long.
_FEW = 1024


@dataclass(frozen=True)
class Chosen:
    """A token that was chosen.

    Attributes:
        logprob: natural logarithm of its probability, before temperature and top_p.
        likeliest: the likeliest tokens and theirs, the likeliest first.
    """

    logprob: float
    likeliest: tuple[tuple[int, float], ...]


@dataclass
class Draws:
    """How the tokens of one answer are chosen, and what is noted of them.

    Attributes:
        sampling: see :class:`horen.serve.engines.interface.Sampling`.
        index: number of the answer among those of its request, each of which is drawn by itself.
        noted: the tokens so far, where log-probabilities are wanted.
    """

    sampling: Sampling
    index: int = 0
    noted: list[Chosen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._generator = torch.Generator()
        if self.sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed((self.sampling.seed + self.index) % 2**63)

    def draw(self) -> float:
        """Return a number of [0, 1), by which the next token is drawn."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))


def chosen(scores: Tensor, draws: Sequence[Draws]) -> Tensor:
    """Return [n, V] scores whose greatest are the tokens that are chosen.

    Args:
        scores: [n, V] float32 logits, which are changed.
        draws: how the tokens of the n requests are chosen.
    """
    told = [row for row, one in enumerate(draws) if one.sampling.logprobs is not None]
    before = scores[told].log_softmax(-1) if told else None
    drawn = [row for row, one in enumerate(draws) if one.sampling.temperature > 0]
    if drawn:
        scores[drawn, _sampled(scores[drawn], [draws[row] for row in drawn])] = torch.inf
    if before is not None:
        _note([draws[row] for row in told], scores[told], before)
    return scores


def _sampled(scores: Tensor, draws: list[Draws]) -> Tensor:
    """Return [n] tokens, drawn from [n, V] scores."""
    tokens = torch.empty(len(draws), dtype=torch.int64, device=scores.device)
    # Apart, so that what a seed gives does not depend on what others ask for beside it.
    for whole in (True, False):
        rows = [row for row, one in enumerate(draws) if (one.sampling.top_p >= 1) is whole]
        if not rows:
            continue
        own = [draws[row].sampling for row in rows]
        # Taken off first: over a small temperature the greatest would be infinite.
        some = (scores[rows] - scores[rows].amax(-1, keepdim=True)).double()
        likely = (some / _column([one.temperature for one in own], some)).softmax(-1)
        likely, order = (likely, None) if whole else _nucleus(likely, _column([one.top_p for one in own], some))
        reached = likely.cumsum(-1)
        wanted = _column([draws[row].draw() for row in rows], some) * reached[:, -1:]
        place = torch.searchsorted(reached, wanted, right=True).clamp(max=likely.shape[-1] - 1)
        tokens[rows] = (place if order is None else order.gather(-1, place))[:, 0]
    return tokens


def _nucleus(likely: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest probabilities of [n, V], which sum to [n, 1] top_p, with their tokens; others are 0."""
    found, order = likely.topk(min(_FEW, likely.shape[-1]), dim=-1)
    if bool((found.sum(-1, keepdim=True) < top_p).any()):
        found, order = likely.sort(dim=-1, descending=True)
    return torch.where(found.cumsum(-1) - found < top_p, found, 0.0), order


def _column(numbers: list[float], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).to(like.device)[:, None]


def _note(draws: list[Draws], scores: Tensor, logprobs: Tensor) -> None:
    """Note what was chosen by [n, V] scores, with [n, V] log-probabilities."""
    taken = scores.argmax(-1)
    own = logprobs.gather(-1, taken[:, None])[:, 0].tolist()
    most = max(one.sampling.logprobs or 0 for one in draws)
    values, tokens = logprobs.topk(min(most, logprobs.shape[-1]), dim=-1)
    for one, logprob, numbers, ids in zip(draws, own, values.tolist(), tokens.tolist(), strict=True):
        likeliest = tuple(zip(ids, numbers, strict=True))[: one.sampling.logprobs]
        one.noted.append(Chosen(logprob, likeliest))
