from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from horen import HorenConfig
from horen.editing.training.values import Trained, train_checked, train_values

SIZE = 3


@dataclass(frozen=True)
class Logistic:
    """Row i asks tokens t of the value v: log p = logsigmoid(wᵢₜ·v + bᵢₜ) where the token is real."""

    weights: Tensor  # [B, T, P]
    biases: Tensor  # [B, T]
    real: Tensor  # [B, T]
    scales: Tensor  # [B]

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def scale(self) -> Tensor:
        return self.scales

    def keep(self, rows: Tensor) -> Logistic:
        return Logistic(self.weights[rows], self.biases[rows], self.real[rows], self.scales[rows])

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        assert len(values) == len(self)
        found = logsigmoid(torch.einsum("btp,bp->bt", self.weights, values) + self.biases)
        return found.masked_fill(~self.real, 0.0), self.real


@dataclass(frozen=True)
class Bowl:
    """log p = −(v − c)² − f: the optimum is c, where p is e^(−f)."""

    centres: Tensor  # [B, P]
    floors: Tensor  # [B]

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def scale(self) -> Tensor:
        return torch.ones(len(self))

    def keep(self, rows: Tensor) -> Bowl:
        return Bowl(self.centres[rows], self.floors[rows])

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        found = -(values - self.centres).square().sum(-1, keepdim=True) - self.floors[:, None]
        return found, torch.ones_like(found, dtype=torch.bool)


def config(**settings: Any) -> HorenConfig:
    usual = {"learning_rate": 0.3, "learning_rate_unit": "absolute", "max_steps": 40, "stop_probability": 0.9}
    return HorenConfig(**(usual | settings))


def logistic(rows: int, seed: int, *, hard: float = 0.0, tokens: int = 3) -> Logistic:
    generator = torch.Generator().manual_seed(seed)
    real = torch.rand(rows, tokens, generator=generator) < 0.7
    real[:, 0] = True
    return Logistic(
        torch.randn(rows, tokens, SIZE, generator=generator) + 1.0,
        torch.randn(rows, tokens, generator=generator) - hard,
        real,
        torch.rand(rows, generator=generator) + 0.5,
    )


def mean_loss(objective: Logistic, value: Tensor) -> float:
    found, real = objective.log_probabilities(value.expand(len(objective), -1))
    return float((-found.sum(-1) / real.sum(-1)).mean())


class Normalized:
    """Momentum over unit gradients, written out for one edit."""

    def __init__(self, values: list[Tensor], lr: float) -> None:
        self.value, self.rate, self.steps = values[0], lr, 0
        self.mean = torch.zeros_like(self.value)

    def zero_grad(self) -> None:
        self.value.grad = None

    @torch.no_grad()
    def step(self) -> None:
        gradient = self.value.grad
        assert gradient is not None
        self.steps += 1
        self.mean = 0.8 * self.mean + 0.2 * gradient * SIZE**0.5 / gradient.norm()
        self.value -= self.rate * self.mean / (1 - 0.8**self.steps)


OPTIMIZERS = {"adam": torch.optim.Adam, "normalized": Normalized}


def with_torch(
    objective: Logistic, rows: list[int], start: Tensor, settings: HorenConfig, scale: float
) -> tuple[list[Tensor], int, bool, float]:
    """One edit alone, by torch's own Adam or by hand: values of the lowest loss, steps, converged, that loss."""
    rate = settings.learning_rate * (scale if settings.learning_rate_unit == "site" else 1.0)
    value = start.clone().requires_grad_()
    optimizer: Any = OPTIMIZERS[settings.optimizer]([value], lr=rate)
    part = objective.keep(torch.tensor(rows))
    seen: list[tuple[Tensor, float]] = []
    for step in range(settings.max_steps + 1):
        found, real = part.log_probabilities(value.expand(len(rows), -1))
        loss = (-found.sum(-1) / real.sum(-1)).mean()
        if settings.stop_probability < 1 and float(found.detach()[real].min().exp()) >= settings.stop_probability:
            return [value.detach().clone()], step, True, loss.item()
        seen.append((value.detach().clone(), loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    lowest = min(reached for _, reached in seen)
    # Steps to and fro across a valley have losses that differ by rounding alone, and the lowest may be any of them.
    return [at for at, reached in seen if reached <= lowest + 1e-5], settings.max_steps, False, lowest


@settings(max_examples=20)
@given(
    st.integers(0, 200),
    st.lists(st.integers(1, 3), min_size=1, max_size=6),
    st.sampled_from(["absolute", "site"]),
    st.sampled_from(list(OPTIMIZERS)),
    st.sampled_from([5, 40]),
)
@example(112, [2, 2, 3], "site", "normalized", 40)
@example(2, [1, 3, 1, 3], "absolute", "normalized", 40)
def test_it_is_the_optimizer_for_every_edit_alone(
    seed: int, contexts: list[int], unit: str, optimizer: str, steps: int
):
    owner = [edit for edit, count in enumerate(contexts) for _ in range(count)]
    objective = logistic(len(owner), seed, hard=2.0)
    chosen = config(learning_rate_unit=unit, optimizer=optimizer, max_steps=steps)
    start = torch.randn(len(contexts), SIZE, generator=torch.Generator().manual_seed(seed))
    for edit, trained in enumerate(train_values(objective, owner, start, chosen)):
        rows = [row for row, number in enumerate(owner) if number == edit]
        scale = float(objective.scales[rows].mean())
        values, taken, converged, loss = with_torch(objective, rows, start[edit], chosen, scale)
        assert (trained.steps, trained.converged) == (taken, converged)
        assert trained.loss == pytest.approx(loss, abs=1e-5)
        assert mean_loss(objective.keep(torch.tensor(rows)), trained.value) == pytest.approx(trained.loss, abs=1e-6)
        # Beside an optimum gradients are small, and of unit length their rounding is a way of its own: after many
        # steps there the loss is the same, its place need not be.
        if converged or optimizer == "adam" or steps == 5:
            nearest = min(values, key=lambda value: float((trained.value - value).norm()))
            torch.testing.assert_close(trained.value, nearest, atol=1e-4, rtol=1e-4)
        assert trained.value.dtype == torch.float32


@settings(max_examples=20)
@given(st.integers(0, 200), st.lists(st.integers(1, 3), min_size=2, max_size=6))
def test_batch_mates_change_nothing(seed: int, contexts: list[int]):
    owner = [edit for edit, count in enumerate(contexts) for _ in range(count)]
    objective = logistic(len(owner), seed, hard=1.0)
    start = torch.zeros(len(contexts), SIZE)
    together = train_values(objective, owner, start, config())
    for edit, trained in enumerate(together):
        rows = torch.tensor([row for row, number in enumerate(owner) if number == edit])
        (alone,) = train_values(objective.keep(rows), [0] * len(rows), start[edit : edit + 1], config())
        same(trained, alone)


def same(one: Trained, two: Trained) -> None:
    assert (one.steps, one.converged) == (two.steps, two.converged)
    torch.testing.assert_close(one.value, two.value, atol=1e-5, rtol=1e-5)
    assert one.loss == pytest.approx(two.loss, abs=1e-5)


def test_rows_of_one_edit_need_not_be_neighbours():
    objective = logistic(4, 3)
    order = torch.tensor([2, 0, 3, 1])
    straight = train_values(objective, [0, 0, 1, 1], torch.zeros(2, SIZE), config())
    mixed = train_values(objective.keep(order), [1, 0, 1, 0], torch.zeros(2, SIZE), config())
    for one, two in zip(straight, mixed, strict=True):
        same(one, two)


def test_it_stops_at_the_step_where_every_token_is_probable():
    objective = logistic(3, 1)
    (trained,) = train_values(objective, [0, 0, 0], torch.zeros(1, SIZE), config())
    assert trained.converged
    found, real = objective.log_probabilities(trained.value.expand(3, -1))
    assert (found[real].exp() >= 0.9).all()
    (short,) = train_values(objective, [0, 0, 0], torch.zeros(1, SIZE), config(max_steps=trained.steps - 1))
    assert not short.converged
    (exact,) = train_values(objective, [0, 0, 0], torch.zeros(1, SIZE), config(max_steps=trained.steps))
    assert exact.converged


def test_a_start_that_holds_is_kept():
    bowl = Bowl(torch.zeros(1, SIZE), torch.full((1,), 0.01))
    (trained,) = train_values(bowl, [0], torch.zeros(1, SIZE), config())
    assert trained.converged
    assert trained.steps == 0
    assert torch.equal(trained.value, torch.zeros(SIZE))


def test_one_bad_context_keeps_an_edit_from_converging():
    bowl = Bowl(torch.zeros(2, SIZE), torch.tensor([0.0, 2.0]))
    (trained,) = train_values(bowl, [0, 0], torch.zeros(1, SIZE), config())
    assert not trained.converged
    assert trained.loss == pytest.approx(1.0, abs=1e-4)


def test_one_bad_token_keeps_an_edit_from_converging():
    objective = Logistic(torch.zeros(1, 2, SIZE), torch.tensor([[9.0, 0.0]]), torch.ones(1, 2).bool(), torch.ones(1))
    (trained,) = train_values(objective, [0], torch.zeros(1, SIZE), config(stop_probability=0.7))
    assert not trained.converged


def test_without_convergence_the_best_value_is_kept():
    # Large steps overshoot the optimum and swing around it; the lowest loss is not that of the last step.
    bowl = Bowl(torch.full((1, SIZE), 0.35), torch.full((1,), 3.0))
    coarse = config(learning_rate=1.0, max_steps=3)
    losses = []
    for steps in range(4):
        (seen,) = train_values(bowl, [0], torch.zeros(1, SIZE), coarse, max_steps=steps)
        losses.append(seen.loss)
    (trained,) = train_values(bowl, [0], torch.zeros(1, SIZE), coarse)
    assert not trained.converged
    assert trained.steps == 3
    distance = float((trained.value - 0.35).square().sum())
    assert trained.loss == pytest.approx(distance + 3.0, abs=1e-5)
    assert losses == sorted(losses, reverse=True)


def test_the_optimum_is_found():
    centres = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 0.0]])
    trained = train_values(
        Bowl(centres, torch.full((2,), 1.0)), [0, 1], torch.zeros(2, SIZE), config(max_steps=400, learning_rate=0.05)
    )
    for item, centre in zip(trained, centres, strict=True):
        torch.testing.assert_close(item.value, centre, atol=2e-2, rtol=0)
        assert item.loss == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("floor", [0.0, 5.0])
def test_no_steps_only_measure(floor: float):
    start = torch.full((1, SIZE), 0.1)
    bowl = Bowl(torch.zeros(1, SIZE), torch.full((1,), floor))
    (trained,) = train_values(bowl, [0], start, config(), max_steps=0)
    assert torch.equal(trained.value, start[0])
    assert trained.steps == 0
    assert trained.loss == pytest.approx(0.03 + floor, abs=1e-6)
    assert trained.converged == (floor == 0.0)


def test_stop_probability_one_runs_every_step():
    bowl = Bowl(torch.zeros(1, SIZE), torch.zeros(1))
    (trained,) = train_values(bowl, [0], torch.zeros(1, SIZE), config(stop_probability=1.0, max_steps=7))
    assert trained.steps == 7
    assert not trained.converged


def test_the_rate_follows_the_size_of_the_site():
    def moved(scale: float, unit: str) -> float:
        objective = Logistic(
            torch.ones(1, 1, SIZE), torch.zeros(1, 1), torch.ones(1, 1).bool(), torch.full((1,), scale)
        )
        once = config(learning_rate_unit=unit, max_steps=1, stop_probability=1.0)
        (trained,) = train_values(objective, [0], torch.zeros(1, SIZE), once)
        return float(trained.value[0])

    assert moved(1.0, "site") == pytest.approx(0.3, rel=1e-3)
    assert moved(4.0, "site") == pytest.approx(1.2, rel=1e-3)
    assert moved(4.0, "absolute") == pytest.approx(0.3, rel=1e-3)


def test_the_start_is_not_changed():
    start = torch.zeros(2, SIZE)
    train_values(logistic(2, 0), [0, 1], start, config())
    assert not start.any()


def test_a_loss_that_is_no_number_harms_only_its_own_edit():
    objective = logistic(2, 5)
    broken = Logistic(objective.weights.clone(), objective.biases, objective.real, objective.scales)
    broken.weights[0] = torch.nan
    start = torch.zeros(2, SIZE)
    sick, healthy = train_values(broken, [0, 1], start, config())
    (alone,) = train_values(objective.keep(torch.tensor([1])), [0], start[1:], config())
    same(healthy, alone)
    assert not sick.converged
    assert sick.value.isfinite().all()


# --- a fast approximation that is checked ----------------------------------------------------------------------


def test_checked_on_the_same_objective_it_is_the_same():
    objective, owner, start = logistic(4, 2, hard=1.0), [0, 0, 1, 2], torch.zeros(3, SIZE)
    plain = train_values(objective, owner, start, config())
    for one, two in zip(plain, train_checked(objective, objective, owner, start, config()), strict=True):
        same(one, two)


def rough_and_exact(biases: Sequence[float]) -> tuple[Logistic, Logistic]:
    """An approximation that thinks each edit is easier than it is, by so much."""
    rows = len(biases)
    weights, real = torch.ones(rows, 1, SIZE), torch.ones(rows, 1).bool()
    exact = Logistic(weights, torch.zeros(rows, 1), real, torch.ones(rows))
    return Logistic(weights, torch.tensor(biases)[:, None], real, torch.ones(rows)), exact


def test_what_is_said_holds_on_the_exact_objective():
    fast, exact = rough_and_exact([0.0, 1.0, 2.0])
    for edit, trained in enumerate(train_checked(fast, exact, [0, 1, 2], torch.zeros(3, SIZE), config())):
        found, _ = exact.keep(torch.tensor([edit])).log_probabilities(trained.value[None])
        assert trained.converged
        assert float(found.exp()) >= 0.9
        assert trained.loss == pytest.approx(-found.item(), abs=1e-5)


def test_checked_training_takes_no_more_steps_than_allowed():
    fast, exact = rough_and_exact([2.0, -1.0, 0.5, 9.0])
    for limit in range(1, 12):
        short = config(max_steps=limit)
        for trained in train_checked(fast, exact, [0, 1, 2, 3], torch.zeros(4, SIZE), short):
            assert trained.steps <= limit


@pytest.mark.parametrize("limit", [2, 4, 6, 8])
def test_checked_batch_mates_change_nothing(limit: int):
    fast, exact = rough_and_exact([2.0, 1.0, 0.5, 9.0])
    short, start = config(max_steps=limit), torch.zeros(4, SIZE)
    together = train_checked(fast, exact, [0, 1, 2, 3], start, short)
    for edit, trained in enumerate(together):
        row = torch.tensor([edit])
        (alone,) = train_checked(fast.keep(row), exact.keep(row), [0], start[:1], short)
        same(trained, alone)


def test_a_finer_objective_that_is_the_same_changes_nothing():
    objective, owner, start = logistic(4, 2, hard=1.0), [0, 0, 1, 2], torch.zeros(3, SIZE)
    plain = train_values(objective, owner, start, config())
    for one, two in zip(plain, train_values(objective, owner, start, config(), finer=lambda: objective), strict=True):
        same(one, two)


def test_the_second_half_of_the_steps_is_taken_on_the_finer_objective():
    """The coarse one has its optimum elsewhere, where two edits hold and two never do."""
    away = torch.zeros(4, SIZE)
    away[:, 0] = torch.tensor([0.0, 2.0, 0.0, -3.0])
    coarse = Bowl(away, torch.tensor([0.0, 5.0, 0.0, 5.0]))
    finer = Bowl(-away, torch.zeros(4))
    asked = []

    def make() -> Bowl:
        asked.append(True)
        return finer

    settings_ = config(max_steps=60, stop_probability=0.8)
    found = train_values(coarse, [0, 1, 2, 3], torch.full((4, SIZE), 0.5), settings_, finer=make)
    assert asked == [True]
    assert all(trained.converged for trained in found)
    assert all(trained.steps < 30 for trained in (found[0], found[2]))
    for edit in (1, 3):
        assert found[edit].steps > 30
        assert float((found[edit].value + away[edit]).norm()) < 0.5


def test_a_finer_objective_is_not_made_where_none_is_needed():
    objective, start = logistic(3, 2), torch.zeros(3, SIZE)

    def never() -> Logistic:
        raise AssertionError

    found = train_checked(objective, objective, [0, 1, 2], start, config(), finer=never)
    assert all(trained.converged for trained in found)


def test_what_a_check_found_short_takes_smaller_steps():
    fast, exact = rough_and_exact([1.0])
    (short,) = train_values(fast, [0], torch.zeros(1, SIZE), config())
    (whole,) = train_checked(fast, exact, [0], torch.zeros(1, SIZE), config())
    moved = float((whole.value - short.value).norm())
    assert whole.steps > short.steps
    assert moved <= (whole.steps - short.steps) * 0.25 * 0.3 * SIZE**0.5 + 1e-5
