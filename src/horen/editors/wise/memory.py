"""Side memories of WISE: subspaces, how they merge, and what a prompt's score in one is. Knows no model.

Equations: Wang et al. 2024 (arXiv 2405.14768). A side memory W′ is kept as its difference D = W′ − W to the layer's own
weights W, as [d_v, d_k] float32, whichever way round the model holds W. All that is needed of it is A(x) (W′ − W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import relu

from horen.editing.training import seeded


def subspace(shape: Sequence[int], ratio: float, seed: int, shard: int) -> Tensor:
    """Return the mask M of a shard, bool: each weight is in it with probability ρ, independently (section 2.3.2).

    Two masks thus share ρ² of the weights, and k of them ρᵏ (theorem 2.1).
    """
    return torch.rand(tuple(shape), generator=seeded(f"{seed}:{shard}")) < ratio


def ties(changes: Sequence[Tensor], density: float) -> Tensor:
    """Return the merge of k changes of one shape (equation 8; TIES: Yadav et al. 2023, arXiv 2306.01708).

    Trim: of each change the share ``density`` of the weights that is largest in size is kept. Elect: a weight's sign is
    that of the sum. Disjoint mean: over those changes whose weight has that sign.
    """
    trimmed = [_trimmed(change, density) for change in changes]
    elected = torch.stack(trimmed).sum(0).sign()
    total, count = torch.zeros_like(elected), torch.zeros_like(elected)
    for change in trimmed:
        agrees = (change.sign() == elected) & (elected != 0)
        total += change * agrees
        count += agrees
    return total / count.clamp_min(1)


def _trimmed(change: Tensor, density: float) -> Tensor:
    kept = round(density * change.numel())
    if int(change.count_nonzero()) <= kept:
        return change
    flat = change.flatten()
    largest = flat.abs().topk(kept).indices
    return torch.zeros_like(flat).index_copy(0, largest, flat[largest]).reshape(change.shape)


def activation_scores(features: Tensor, difference: Tensor) -> Tensor:
    """Return Δ_act(x) = ‖A(x) (W′ − W)‖₂ (equation 3), [B] of [B, d_k] features A(x)."""
    scores: Tensor = vector_norm(features @ difference.T, dim=-1)
    return scores


@dataclass(frozen=True)
class Margins:
    """α, β and γ, in the units of the scores."""

    alpha: float
    beta: float
    gamma: float

    def loss(self, edited: Tensor, irrelevant: Tensor) -> Tensor:
        """Return L_a (equation 5), its mean over all pairs of an edit's score [E] and an irrelevant prompt's [R]."""
        leads = edited[:, None] - irrelevant[None]
        return relu(irrelevant - self.alpha).mean() + relu(self.beta - edited).mean() + relu(self.gamma - leads).mean()

    def kept(self, edited: Tensor, irrelevant: Tensor) -> bool:
        """Return whether no score misses a margin."""
        return float(self.loss(edited.detach(), irrelevant.detach())) == 0


@dataclass(frozen=True, eq=False)
class Side:
    """The side memories, and how far the present one is.

    Attributes:
        retrieve: whether merged shards stay a memory of their own (WISE-Retrieve) or are built on (WISE-Merge).
        density: of :func:`ties`.
        finished: differences of merged shards; with WISE-Merge at most one.
        shards: what the shards of the memory that is being written change in it, none that is merged already.
        filled: edits in the last of them.
        smallest: the smallest score that an edit had when it was written.
        share: of ``smallest`` at which prompts are routed.
    """

    retrieve: bool
    density: float
    share: float
    finished: tuple[Tensor, ...] = ()
    shards: tuple[Tensor, ...] = ()
    filled: int = 0
    smallest: float = math.inf

    @property
    def threshold(self) -> float:
        """ε."""
        return self.share * self.smallest

    @property
    def base(self) -> Tensor | None:
        """What the shards that are being written are copies of; None is the layer as it is."""
        return None if self.retrieve or not self.finished else self.finished[-1]

    @cached_property
    def memories(self) -> tuple[Tensor, ...]:
        """Every side memory's difference, that of the present shards merged as far as they are."""
        if not self.shards:
            return self.finished
        merged = ties(self.shards, self.density)
        return (*self.finished, merged) if self.base is None else (self.base + merged,)

    @property
    def device(self) -> torch.device:
        """Where the differences are."""
        return (*self.finished, *self.shards)[0].device

    @property
    def nbytes(self) -> int:
        """Bytes of the differences."""
        return sum(tensor.nbytes for tensor in {id(t): t for t in (*self.tensors().values(), *self.memories)}.values())

    def to(self, device: torch.device) -> Side:
        """Return the same on a device."""
        return replace(
            self,
            finished=tuple(tensor.to(device) for tensor in self.finished),
            shards=tuple(tensor.to(device) for tensor in self.shards),
        )

    def scores(self, features: Tensor) -> Tensor:
        """Return [B, M] of [B, d_k] features and M memories."""
        return torch.stack([activation_scores(features, memory) for memory in self.memories], dim=-1)

    def with_room(self, shards: int, edits: int, shape: tuple[int, int], device: torch.device) -> Side:
        """Return the same with a new shard where the last is full, merged where there are k of them."""
        if self.shards and self.filled < edits:
            return self
        full = len(self.shards) >= shards
        fresh = torch.zeros(shape, device=device)
        return replace(
            self,
            finished=self.memories if full else self.finished,
            shards=(fresh,) if full else (*self.shards, fresh),
            filled=0,
        )

    def written(self, change: Tensor, edits: int, features: Tensor) -> Side:
        """Return it with the last shard's new change, which holds so many more edits with [B, d_k] features."""
        side = replace(self, shards=(*self.shards[:-1], change), filled=self.filled + edits)
        return replace(side, smallest=min(self.smallest, float(side.scores(features).amax(-1).min())))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for :meth:`of`."""
        numbers = {"filled": torch.tensor(self.filled), "smallest": torch.tensor(self.smallest, dtype=torch.float64)}
        finished = {f"finished.{number}": tensor for number, tensor in enumerate(self.finished)}
        return numbers | finished | {f"shards.{number}": tensor for number, tensor in enumerate(self.shards)}
