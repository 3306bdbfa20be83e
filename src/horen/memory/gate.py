"""Settings of retrieval: what makes a score of a query and a key, and which score lets an entry fire."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory.aids import Proposals, SmallCopy
from horen.memory.hopfield import Retrieval, retrieve, trajectory
from horen.memory.keys import Keys

# Radians: where a cosine is nearly 1, its last bit is 5e-4 of an angle.
_ANGLE_ROUNDING = 2e-3


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a query's nearest key is found and scored: s − γ c.

    s is the similarity after refinement and c the crowd's, the mean similarity of the nearest ``neighbours`` keys with
    another label. A near miss is about as near to many keys as to its nearest one, a rephrase is not (the local
    scaling of nearest-neighbour search, as in CSLS, Conneau et al. 2018).

    Attributes:
        contrast: γ ≥ 0; 0 scores by the similarity itself.
        neighbours: size k ≥ 1 of the crowd.
        alpha: damping of a Hopfield step, see :func:`horen.memory.hopfield.retrieve`, like what follows.
        beta: inverse temperature.
        steps: most Hopfield steps.
        epsilon: where a query has arrived.
    """

    contrast: float = 0.0
    neighbours: int = 1
    alpha: float
    beta: float
    steps: int
    epsilon: float = 1e-5

    def retrieve(
        self,
        queries: Tensor,
        keys: Keys,
        labels: Tensor,
        *,
        awake: Tensor | None = None,
        sketch: SmallCopy | None = None,
        index: Proposals | None = None,
    ) -> tuple[Retrieval, Tensor]:
        """Return what [B, d] queries find among [N, d] keys with [N] labels, and the score [B] of each.

        Without contrast no crowd is looked for.
        """
        found = retrieve(
            queries,
            keys,
            labels,
            alpha=self.alpha,
            beta=self.beta,
            steps=self.steps,
            epsilon=self.epsilon,
            neighbours=self.neighbours if self.contrast else 1,
            awake=awake,
            sketch=sketch,
            index=index,
        )
        return found, self.score(found.similarity, found.crowd)

    def way(self, queries: Tensor, keys: Keys, *, awake: Tensor | None = None) -> Tensor:
        """Return [steps + 1, B, d]: where Hopfield steps among [N, d] keys take [B, d] queries."""
        return trajectory(
            queries,
            keys,
            alpha=self.alpha,
            beta=self.beta,
            steps=self.steps,
            epsilon=self.epsilon,
            awake=awake,
        )

    def score(self, similarity: Tensor, crowd: Tensor) -> Tensor:
        """Return scores of similarities and their crowds', all of one shape."""
        return similarity - self.contrast * crowd


@dataclass(frozen=True, kw_only=True)
class Gate(Scoring):
    """When the nearest entry fires: score > τ, and its similarity leads that of the next value by m or more.

    Attributes:
        threshold: τ.
        margin: m ≥ 0; a query that two values claim alike wakes neither. 0 lets the nearest fire.
    """

    threshold: float
    margin: float = 0.0

    def fires(self, score: Tensor, lead: Tensor) -> Tensor:
        """Return [B] bool, whether winners with these scores [B] fire.

        Their similarities are ``lead`` [B] above the next value's.
        """
        return (score > self.threshold) & (lead >= self.margin)

    def in_reach(self, similarity: Tensor) -> Tensor:
        """Return whether a query might fire, given the cosine [B] of its nearest key before any step; [B] bool.

        A step adds α r to (1 − α) q, so it turns q by no more than arcsin(α / (1 − α)); and no hubness correction
        raises a score.
        """
        if self.alpha >= 0.5:
            return torch.ones_like(similarity, dtype=torch.bool)
        turn = self.steps * math.asin(self.alpha / (1 - self.alpha))
        needed = math.acos(max(-1.0, min(1.0, self.threshold)))
        return similarity.clamp(-1, 1).acos() <= needed + turn + _ANGLE_ROUNDING
