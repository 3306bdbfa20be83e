"""One calibrated score of all evidence: does this prompt ask for the very fact that a stored one answers?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from horen.scope.wording import EVIDENCE

#: What an asked prompt is to a stored one: it asks the same, something else about the same subject, or neither.
Asks = Literal["own", "about", "other"]

#: Names of the evidence of each part of a score, in order.
FIRST = ("subject", "relation", *EVIDENCE)
WHOLE = (*FIRST, "own_not_about", "own_not_other")


@dataclass(frozen=True)
class Logistic:
    """A logistic regression: 1 / (1 + exp(−(w·x + b))).

    Attributes:
        weights: w, as many as there is evidence.
        bias: b.
    """

    weights: tuple[float, ...]
    bias: float

    def __call__(self, evidence: Tensor) -> Tensor:
        """[n] float32 probabilities of [n, e] evidence."""
        weights = torch.tensor(self.weights, dtype=evidence.dtype, device=evidence.device)
        return torch.sigmoid(evidence @ weights + self.bias)


@dataclass(frozen=True)
class Judge:
    """How evidence becomes a score.

    Attributes:
        first: of the evidence ``FIRST``, which is there for every candidate.
        whole: of the evidence ``WHOLE``, to which the pair check adds.
        subject: whether both prompts are about one subject, of the evidence ``FIRST``.
        unlikely: below this first score a candidate is not checked and keeps it.
    """

    first: Logistic
    whole: Logistic
    subject: Logistic
    unlikely: float

    def most(self, evidence: Tensor) -> Tensor:
        """[n] float32 scores that pairs with [n, e] evidence ``FIRST`` have at most, whatever a check says of them."""
        best = torch.tensor([float(weight > 0) for weight in self.whole.weights[len(FIRST) :]])
        return self.whole(torch.cat([evidence, best.expand(len(evidence), -1)], dim=-1))

    def verdict(self, score: float, subject: float, threshold: float) -> Asks:
        """Return what a pair of prompts is to each other, with its score and how likely its subject is the same."""
        return "own" if score > threshold else "about" if subject > 0.5 else "other"


def fitted(evidence: Tensor, labels: Tensor, *, weight: float = 1e-3, signs: Sequence[int] = ()) -> Logistic:
    """Return the logistic regression of least loss, by L-BFGS in float64.

    Args:
        evidence: [n, e].
        labels: [n] bool.
        weight: of the squared weights, in units of evidence that has a standard deviation of 1.
        signs: for each kind of evidence 1 or −1 where its weight may have that sign alone; empty for any.
    """
    x, y = evidence.double(), labels.double()
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    x = (x - mean) / scale
    free = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    allowed = torch.tensor(signs, dtype=torch.float64) if signs else None
    optimizer: Any = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")

    def weights() -> Tensor:
        return free[:-1] if allowed is None else allowed * torch.nn.functional.softplus(free[:-1])

    def closure() -> Tensor:
        optimizer.zero_grad()
        given = weights()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ given + free[-1], y)
        loss = loss + weight * given.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        found = weights() / scale
        bias = float(free[-1] - (found * mean).sum())
    return Logistic(tuple(round(value, 6) for value in found.tolist()), round(bias, 6))
