"""What a key space and a gate make of a trial: scores of everything that is asked, and the thresholds they allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.calibration.material import Trial
from horen.memory import Scoring

_BLOCK = 512


@dataclass(frozen=True)
class Outcome:
    """Scores of a trial.

    Attributes:
        right: [n] bool, whether a rephrase came nearest to its own edit.
        scores: [n] of the rephrases.
        negatives: by kind, [m] scores of what must not fire.
    """

    right: Tensor
    scores: Tensor
    negatives: Mapping[str, Tensor]

    @property
    def top_1(self) -> float:
        """Share of rephrases that come nearest to their own edit."""
        return float(self.right.float().mean())

    def generalization(self, threshold: float) -> float:
        """Return the share of rephrases that wake their own edit."""
        return float((self.right & (self.scores > threshold)).float().mean())

    def fires(self, kind: str, threshold: float) -> int:
        """Return how many of one kind of negatives wake some edit."""
        return int((self.negatives[kind] > threshold).sum())

    def threshold(self, kind: str, rate: float) -> float:
        """Return the lowest score at which one kind of negatives fires no more often than its rate."""
        scores = self.negatives[kind].sort(descending=True).values
        return float(scores[min(int(rate * len(scores)), len(scores) - 1)])

    def at(self, kind: str, rate: float) -> float:
        """Return generalization at :meth:`threshold`."""
        return self.generalization(self.threshold(kind, rate))


def outcome(trial: Trial, rows: Mapping[str, Tensor], scoring: Scoring) -> Outcome:
    """Route everything that a trial asks.

    Args:
        trial: the edits and the questions.
        rows: [d] unit key of every text of the trial.
        scoring: how it is routed.
    """
    keys = torch.stack([rows[fact.prompt] for fact in trial.facts])
    owner = torch.tensor([number for number, fact in enumerate(trial.facts) for _ in fact.rephrases])
    nearest, scores = _all(scoring, [rows[text] for fact in trial.facts for text in fact.rephrases], keys)
    kinds = {kind for kind, _ in trial.negatives}
    return Outcome(
        right=nearest == owner,
        scores=scores,
        negatives={
            kind: _all(scoring, [rows[text] for other, text in trial.negatives if other == kind], keys)[1]
            for kind in sorted(kinds)
        },
    )


def _all(scoring: Scoring, queries: list[Tensor], keys: Tensor) -> tuple[Tensor, Tensor]:
    stacked, labels = torch.stack(queries), torch.arange(len(keys), device=keys.device)  # every key is an edit
    starts = range(0, len(stacked), _BLOCK)
    parts = [scoring.retrieve(stacked[start : start + _BLOCK], keys, labels) for start in starts]
    return torch.cat([found.index for found, _ in parts]), torch.cat([score for _, score in parts])
