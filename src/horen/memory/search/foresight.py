"""What a Hopfield step will decide, told from an int8 copy of the keys where that is certain.

Let C be a query's nearest keys, by the copy, and S and R the sums of the keys in and outside C by their softmax weights
exp(β kᵢ·q), so that r = normalize(S + R). S is known exactly. ‖R‖ is at most the sum ρ of the weights outside C, which
the copy bounds from above; so r is no further from normalize(S) than a chord of the angle arcsin(ρ / ‖S‖), and q' and
every score are known up to a bound that follows. A query that is much nearer to a few keys than to all others, as one
that wakes an edit is, leaves ρ small. Where the bound decides, the keys need not be read.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.gate import Gate
from horen.memory.hopfield import Retrieval, crowd
from horen.memory.keys import Keys
from horen.memory.search.nearest import top
from horen.memory.search.sketch import SketchedKeys

# Candidates, for each of the crowd and for the winner: more leave less weight outside and take longer to gather.
_CANDIDATES = 16
# More than what float32 rounds off in a score.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Look:
    """What an int8 copy of the keys says of B queries.

    Attributes:
        queries: [B, d] float32 unit rows.
        columns: [B, M] int64, the keys that seem nearest.
        keys: [B, M, d] these.
        cosines: [B, M] theirs, as they are; −inf for those that sleep.
        rough: [B, N] the copy's products with all other keys; −inf for the candidates and those that sleep.
        error: [B, 1] how far these may be off.
    """

    queries: Tensor
    columns: Tensor
    keys: Tensor
    cosines: Tensor
    rough: Tensor
    error: Tensor

    @property
    def highest(self) -> Tensor:
        """[B], what no cosine of any key exceeds."""
        return torch.maximum(self.cosines.amax(-1), self.outside.squeeze(-1))

    @property
    def outside(self) -> Tensor:
        """[B, 1], what no cosine of a key that is no candidate exceeds."""
        return self.rough.amax(-1, keepdim=True) + self.error

    def of(self, rows: Tensor) -> Look:
        """Return what is known of some of the queries, [b] int64 in rising order."""
        return (
            self
            if len(rows) == len(self.queries)
            else Look(*(getattr(self, field.name)[rows] for field in fields(self)))
        )


@dataclass(frozen=True)
class Foresight:
    """What one step on B queries would find.

    Attributes:
        found: winner, runner-up and crowd, of which cosines after refinement are approximate.
        score: [B] float32, approximate.
        error: [B] float32, how far the score may be off.
        certain: [B] bool, whether winner and firing are certain to be those that the step would give.
        fires: [B] bool, whether the winner fires, where that is certain.
    """

    found: Retrieval
    score: Tensor
    error: Tensor
    certain: Tensor
    fires: Tensor

    def settled(self, labels: Tensor, prompts: Tensor) -> Tensor:
        """Return [B] bool, rows that need no step: what fires is certain, and which reading of a prompt scores highest.

        Args:
            labels: [N] int64, of the keys.
            prompts: [B] int64; rows of one number are readings of one prompt.
        """
        found, own = self.certain.clone(), labels[self.found.index]
        for prompt in set(prompts.tolist()):
            (rows,) = torch.where(prompts == prompt)
            if len(rows) > 1:
                best = rows[self.score[rows].argmax()]
                apart = self.score[best] - self.score[rows] > self.error[best] + self.error[rows]
                # Readings of one edit are alike only if the margin lets both fire or neither.
                alike = (own[rows] == own[best]) & (self.fires[rows] == self.fires[best])
                found[rows] = (self.certain[rows] & (apart | alike)).all()
        return found


def look_around(queries: Tensor, keys: Keys, gate: Gate, sketch: SketchedKeys, *, awake: Tensor | None = None) -> Look:
    """Find candidates for [B, d] unit queries among [N, d] unit keys, and read no others.

    Args:
        queries: float32.
        keys: float32, N ≥ 1.
        gate: says how many are wanted.
        sketch: of the keys.
        awake: [N] bool, the keys that take part (at least one); None for all.
    """
    copied = sketch.asked(queries)
    rough = copied.products(slice(0, len(keys)))
    if awake is not None:
        rough.masked_fill_(~awake, -torch.inf)
    nearest, columns = top(rough, min(_CANDIDATES * (_wanted(gate) + 1), len(keys)))
    own = keys[columns]
    cosines = torch.einsum("bmd,bd->bm", own, queries).masked_fill_(nearest.isneginf(), -torch.inf)
    return Look(queries, columns, own, cosines, rough.scatter_(-1, columns, -torch.inf), copied.error + _ROUNDING)


def foresee(seen: Look, labels: Tensor, gate: Gate) -> Foresight:
    """Tell what :meth:`horen.memory.gate.Gate.retrieve` finds with one step, without a pass over the keys.

    Args:
        seen: of the queries.
        labels: [N] int64, as for :func:`horen.memory.hopfield.retrieve`.
        gate: with one step and 0 < α.
    """
    refined, error = _moved(seen, gate)
    share = (seen.queries * refined).sum(-1, keepdim=True)
    beyond = seen.outside * share + (refined - share * seen.queries).norm(dim=-1, keepdim=True)
    beyond = torch.where(share > 0, beyond, torch.inf)
    after = torch.einsum("bmd,bd->bm", seen.keys, refined).masked_fill_(seen.cosines.isneginf(), -torch.inf)
    after, order = after.sort(dim=-1, descending=True)
    columns = seen.columns.gather(-1, order)
    winner, similarity = columns[:, 0], after[:, 0]
    second = after[:, 1] if after.shape[-1] > 1 else torch.full_like(similarity, -torch.inf)
    other = (labels[columns] != labels[winner][:, None]) & ~after.isneginf()
    others, places = after.masked_fill(~other, -torch.inf).topk(min(_wanted(gate), after.shape[-1]), dim=-1)
    # The r-th nearest other key is the r-th of the candidates, or one that is no nearer than what is beyond them.
    least, most = crowd(others, _wanted(gate)), crowd(torch.maximum(others, beyond), _wanted(gate))
    score = gate.score(similarity, (least + most) / 2)
    error, beyond, runner = error.squeeze(-1), beyond.squeeze(-1), others[:, 0]
    off = (1 + gate.contrast) * error + gate.contrast * (most - least) / 2
    leads = similarity - torch.maximum(runner, beyond) - 2 * error >= gate.margin
    lags = similarity - runner + 2 * error < gate.margin
    decided = ((score - off > gate.threshold) & leads) | (score + off <= gate.threshold) | lags
    found = Retrieval(
        winner,
        similarity.clamp(max=1),
        seen.cosines.gather(-1, order[:, :1]).squeeze(-1).clamp(max=1),
        columns.gather(-1, places[:, :1]).squeeze(-1).masked_fill_(runner.isneginf(), -1),
        runner,
        (least + most) / 2,
    )
    certain = decided & (similarity - torch.maximum(second, beyond) > 2 * error)
    return Foresight(found, score, off, certain, gate.fires(score, similarity - runner))


def _wanted(gate: Gate) -> int:
    return gate.neighbours if gate.contrast else 1


def _moved(seen: Look, gate: Gate) -> tuple[Tensor, Tensor]:
    """Return [B, d] where a step takes the queries as far as the candidates say, and [B, 1] how far off that may be."""
    peak = seen.cosines.amax(-1, keepdim=True)
    attractor = torch.einsum("bm,bmd->bd", torch.exp(gate.beta * (seen.cosines - peak)), seen.keys)
    rest = (seen.rough + (seen.error - peak)).mul_(gate.beta).exp_().sum(-1, keepdim=True)
    wide = _chord(rest / attractor.norm(dim=-1, keepdim=True))
    moved = torch.lerp(seen.queries, normalize(attractor, dim=-1), gate.alpha)
    # A query that has arrived stays where it is, and would have moved by less than α ε.
    error = _chord(gate.alpha * wide / moved.norm(dim=-1, keepdim=True)) + gate.epsilon + _ROUNDING
    return normalize(moved, dim=-1), error


def _chord(sine: Tensor) -> Tensor:
    """Return the chord of an angle of at most 90° by its sine; 2 where there is no such angle."""
    square = sine.square()
    return torch.where(square < 1, sine * (2 / (1 + (1 - square).clamp_min(0).sqrt())).sqrt(), 2.0)
