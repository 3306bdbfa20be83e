"""The batched optimiser of edits: many values in one optimisation, each as if it were alone.

Every edit has its own value, its own loss and its own row of the optimiser's state, and no optimiser mixes rows, so
which edits share a batch changes a result by rounding only. An edit that has converged leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from horen.config import TrainingSettings

_MOMENTUM = 0.8
_GENTLE = 0.25  # of the learning rate, for values that a check found to fall short
_TINY = 1e-30  # an edit that has left the batch has no gradient


class Objective(Protocol):
    """What is optimised: log-probabilities of target tokens in B rows, as a function of the values written there."""

    def __len__(self) -> int:
        """Return the number of rows B."""

    @property
    def scale(self) -> Tensor:
        """[B] size of the activation that a value is added to."""

    def keep(self, rows: Tensor) -> Objective:
        """Return the objective of some rows only."""

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, T] log-probabilities and the [B, T] mask of tokens, from [B, P] values."""


@dataclass(frozen=True)
class Trained:
    """One trained value.

    Attributes:
        value: [P] float32.
        loss: mean negative log-likelihood in nats of a target token, averaged over the edit's contexts.
        steps: optimisation steps taken.
        converged: whether every target token reached the configured probability in every context.
    """

    value: Tensor
    loss: float
    steps: int
    converged: bool


def train_values(
    objective: Objective,
    owner: Sequence[int],
    start: Tensor,
    config: TrainingSettings,
    *,
    max_steps: int | Sequence[int] | None = None,
    finer: Callable[[], Objective] | None = None,
) -> list[Trained]:
    """Train E values on −log p(target | prompt), averaged over each edit's contexts.

    Args:
        objective: B rows.
        owner: for each row the edit it belongs to, 0 to E − 1; every edit has a row.
        start: [E, P] values to start from.
        config: optimizer, learning_rate, its unit, max_steps and stop_probability are used.
        max_steps: in place of the configured number, for all or for each edit; 0 only measures ``start``.
        finer: makes the same objective less coarsely, for the second half of the steps.

    Returns:
        E results, in order. An edit that does not converge ends with the value of its lowest loss.
    """
    given = config.max_steps if max_steps is None else max_steps
    limits = [given] * len(start) if isinstance(given, int) else list(given)
    run = _Run(objective, torch.tensor(owner, device=objective.scale.device), start, config, limits)
    limit = max(limits, default=0)
    for step in range(limit + 1):
        if finer is not None and step == (limit + 1) // 2:
            run.refine(finer())
        values = run.values.clone().requires_grad_()
        with torch.set_grad_enabled(step < limit):
            loss, worst = run.losses(values)
        run.note(loss.detach(), worst, step)
        if step == limit or not run.compact():
            break
        (gradient,) = torch.autograd.grad(loss.sum(), values)
        run.descend(gradient)
    return run.results()


def train_checked(
    fast: Objective,
    exact: Objective,
    owner: Sequence[int],
    start: Tensor,
    config: TrainingSettings,
    *,
    finer: Callable[[], Objective] | None = None,
) -> list[Trained]:
    """Train on a fast approximation of an objective, then check each value on the exact one.

    A value that does not hold there is trained on in smaller steps, since it is all but there: once more on the
    approximation with half the probability to miss, then exactly, for the steps that are left to it. So what a result
    says is measured on ``exact`` alone. Arguments and result are those of :func:`train_values`, and:

    Args:
        finer: makes an approximation between the two, on which values take the second half of their steps if they need
            so many; where the fast one is so coarse that some do not come to rest on it.
    """
    rough = train_values(fast, owner, start, config, finer=finer)
    values = torch.stack([item.value for item in rough])
    checked = train_values(exact, owner, values, config, max_steps=0)
    result = [
        Trained(seen.value, seen.loss, item.steps, seen.converged) for item, seen in zip(rough, checked, strict=True)
    ]
    if config.stop_probability < 1:
        gentle = config.replace(learning_rate=_GENTLE * config.learning_rate)
        stricter = gentle.replace(stop_probability=(1 + config.stop_probability) / 2)
        _train_on(result, fast, exact, owner, stricter, config)
        _train_on(result, exact, None, owner, gentle, config)
    return result


def _train_on(
    result: list[Trained],
    objective: Objective,
    check: Objective | None,
    owner: Sequence[int],
    aim: TrainingSettings,
    config: TrainingSettings,
) -> None:
    """Give edits that have not converged what steps they have left, and keep what is better for it."""
    left = {i: config.max_steps - item.steps for i, item in enumerate(result) if not item.converged}
    left = {i: steps for i, steps in left.items() if steps > 0}
    if not left:
        return
    places = {edit: place for place, edit in enumerate(left)}
    rows = torch.tensor([row for row, edit in enumerate(owner) if edit in left])
    owners = [places[edit] for edit in owner if edit in left]
    start = torch.stack([result[edit].value for edit in left])
    again = train_values(objective.keep(rows), owners, start, aim, max_steps=list(left.values()))
    measured = again
    if check is not None:
        values = torch.stack([item.value for item in again])
        measured = train_values(check.keep(rows), owners, values, config, max_steps=0)
    for edit, more, seen in zip(left, again, measured, strict=True):
        before = result[edit]
        better = seen.loss <= before.loss or seen.converged
        best = seen if better else before
        result[edit] = Trained(best.value, best.loss, before.steps + more.steps, seen.converged)


class _Run:
    def __init__(
        self, objective: Objective, owner: Tensor, start: Tensor, config: TrainingSettings, limits: Sequence[int]
    ) -> None:
        self._limits = torch.tensor(limits, device=owner.device)
        self._objective, self._owner, self._config = objective, owner, config
        self.values = start.to(owner.device, torch.float32).clone()
        count = len(start)
        scale = torch.zeros(count, device=owner.device).index_add_(0, owner, objective.scale.float())
        unit = scale / torch.bincount(owner, minlength=count)
        if config.learning_rate_unit == "absolute":
            unit = torch.ones_like(unit)
        # A step's size is the learning rate's whatever the gradient's, so the unit goes into the rate alone.
        self._rate = (config.learning_rate * unit)[:, None]
        self._first = torch.zeros_like(self.values)
        self._second = torch.zeros_like(self.values)
        self._best = self.values.clone()
        self._loss = torch.full((count,), torch.inf, device=owner.device)
        self._steps = torch.zeros(count, dtype=torch.int64, device=owner.device)
        self._active = torch.ones(count, dtype=torch.bool, device=owner.device)
        self._converged = torch.zeros_like(self._active)
        self._rows = torch.arange(len(owner), device=owner.device)  # of the objective given, those that are left
        self._taken = 0

    def losses(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the lowest target-token probability of each edit, both [E].

        They are 0 and 1 for edits that have left.
        """
        log_probabilities, real = self._objective.log_probabilities(values[self._owner])
        row = -log_probabilities.sum(-1) / real.sum(-1)
        count = torch.bincount(self._owner, minlength=len(values)).clamp_min(1)
        loss = torch.zeros(len(values), device=values.device).index_add(0, self._owner, row) / count
        lowest = log_probabilities.detach().masked_fill(~real, 0.0).amin(-1)
        worst = torch.zeros(len(values), device=values.device).scatter_reduce(0, self._owner, lowest, "amin")
        return loss, worst.exp()

    def note(self, loss: Tensor, worst: Tensor, step: int) -> None:
        """Remember the best value of every active edit, and let the converged ones go."""
        threshold = self._config.stop_probability
        done = self._active & (worst >= threshold) & (threshold < 1)
        better = self._active & ((loss < self._loss) | done)
        self._best[better] = self.values[better]
        self._loss[better] = loss[better]
        self._steps[self._active] = step
        self._converged |= done
        self._active &= ~done & (step < self._limits)

    def compact(self) -> bool:
        """Drop finished edits' rows once they are a fifth of the batch; False when no edit is active."""
        rows = self._active[self._owner]
        active = int(rows.sum())
        if active and active <= 0.8 * len(rows):
            kept = rows.nonzero()[:, 0]
            self._objective = self._objective.keep(kept)
            self._owner, self._rows = self._owner[kept], self._rows[kept]
        return active > 0

    def refine(self, objective: Objective) -> None:
        """Go on with another objective of the same rows, of which those are kept that are left."""
        self._objective = objective.keep(self._rows)

    def descend(self, gradient: Tensor) -> None:
        """Take one step on active edits."""
        self._taken += 1
        step = self._adam(gradient) if self._config.optimizer == "adam" else self._normalized(gradient)
        self.values -= self._rate * step

    def _adam(self, gradient: Tensor) -> Tensor:
        """Return Adam's step, with its default moments (Kingma and Ba 2015)."""
        self._first.lerp_(gradient, 0.1)
        self._second.lerp_(gradient.square(), 0.001)
        mean = self._first / (1 - 0.9**self._taken)
        spread = (self._second / (1 - 0.999**self._taken)).sqrt()
        return mean / (spread + 1e-8)

    def _normalized(self, gradient: Tensor) -> Tensor:
        """Return the momentum over each edit's gradient at unit root mean square (Cutkosky and Mehta 2020)."""
        size = gradient.square().mean(-1, keepdim=True).sqrt()
        self._first.lerp_(gradient / size.clamp_min(_TINY), 1 - _MOMENTUM)
        return self._first / (1 - _MOMENTUM**self._taken)

    def results(self) -> list[Trained]:
        """Return what became of every edit."""
        columns = (self._loss.tolist(), self._steps.tolist(), self._converged.tolist())
        return [
            Trained(value.clone(), loss, steps, converged)
            for value, loss, steps, converged in zip(self._best, *columns, strict=True)
        ]
