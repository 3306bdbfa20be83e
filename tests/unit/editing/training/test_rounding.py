from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from horen import HorenConfig
from horen.editing.training import Stored, train_checked, train_values
from horen.memory import Storage

SIZE = 8
CONFIG = HorenConfig(learning_rate=0.3, learning_rate_unit="absolute", max_steps=80, stop_probability=0.9)


@dataclass(frozen=True)
class Bowl:
    """log p = −(v − c)², so the distance to c says what was asked."""

    centres: Tensor  # [B, P]

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def scale(self) -> Tensor:
        return torch.full((len(self),), 2.0)

    def keep(self, rows: Tensor) -> Bowl:
        return Bowl(self.centres[rows])

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        found = -(values - self.centres).square().sum(-1, keepdim=True)
        return found, torch.ones_like(found, dtype=torch.bool)


def bowl(rows: int, seed: int = 0) -> Bowl:
    return Bowl(10 * torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("checked", [False, True])
def test_loss_and_convergence_are_those_of_the_rounded_value(name: str, checked: bool):
    storage, exact = Storage(name), bowl(6)
    objective, start = Stored(exact, storage.rounded), torch.zeros(6, SIZE)
    owner = range(6)
    if checked:
        found = train_checked(Stored(bowl(6), storage.rounded), objective, owner, start, CONFIG)
    else:
        found = train_values(objective, owner, start, CONFIG)
    assert any(item.converged for item in found)
    for item, centre in zip(found, exact.centres, strict=True):
        loss = float((storage.rounded(item.value[None])[0] - centre).square().sum())
        assert item.loss == pytest.approx(loss, rel=1e-5, abs=1e-7)
        assert item.converged == (loss <= -torch.tensor(0.9).log())


def test_steps_smaller_than_a_rounding_add_up():
    """The numbers grow by less than half a step of the scale at a time, which rounding each step would undo."""
    objective = Stored(Bowl(torch.tensor([[100.0, 1.0]])), Storage("int8").rounded)
    config = CONFIG.replace(learning_rate=0.05, max_steps=60)
    (found,) = train_values(objective, [0], torch.tensor([[100.0, 0.0]]), config)
    assert found.steps > 1
    assert found.converged


def test_it_is_an_objective_like_the_one_it_wraps():
    storage, exact = Storage("int8"), bowl(4)
    objective = Stored(exact, storage.rounded)
    assert len(objective) == 4
    assert torch.equal(objective.scale, exact.scale)
    kept = objective.keep(torch.tensor([2, 0]))
    values = torch.randn(2, SIZE, requires_grad=True)
    rounded = storage.rounded(values.detach()).requires_grad_()
    one, two = kept.log_probabilities(values)[0], exact.keep(torch.tensor([2, 0])).log_probabilities(rounded)[0]
    assert torch.equal(one, two)
    assert torch.equal(*(torch.autograd.grad(log.sum(), at)[0] for log, at in ((one, values), (two, rounded))))
