"""Scores of a trial and the thresholds they allow, on keys made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.calibration.material import Fact, Trial
from horen.calibration.trials import Outcome, outcome
from horen.memory import Scoring

PLAIN = Scoring(alpha=0.0, beta=20.0, steps=0)


def at(angle: float) -> Tensor:
    """A unit vector of the plane, degrees."""
    return torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))])


def test_outcome_of_a_trial_by_hand():
    trial = Trial(
        facts=(Fact("a", ("a1", "a2")), Fact("b", ("b1",))),
        negatives=(("unrelated", "far"), ("neighbour", "near"), ("unrelated", "away")),
    )
    rows = {"a": at(0), "b": at(90), "a1": at(10), "a2": at(60), "b1": at(80), "far": at(180), "near": at(30)}
    found = outcome(trial, rows | {"away": at(-90)}, PLAIN)
    assert found.right.tolist() == [True, False, True]
    assert found.top_1 == pytest.approx(2 / 3)
    cosines = [math.cos(math.radians(angle)) for angle in (10, 30, 10)]
    assert found.scores.tolist() == pytest.approx(cosines)
    assert found.negatives["neighbour"].tolist() == pytest.approx([math.cos(math.radians(30))])
    assert found.generalization(0.9) == pytest.approx(2 / 3)
    assert found.generalization(0.99) == 0.0
    assert found.fires("neighbour", 0.8) == 1
    assert found.fires("unrelated", 0.8) == 0
    assert found.fires("unrelated", -1.0) == 2


def test_contrast_lowers_what_many_are_near_to():
    keys = torch.stack([at(0), at(20), at(40), at(180)])
    scoring = Scoring(contrast=0.5, neighbours=2, alpha=0.0, beta=20.0, steps=0)
    found, (crowded, alone) = scoring.retrieve(torch.stack([at(20), at(180)]), keys, torch.arange(4))
    assert found.index.tolist() == [1, 3]
    assert float(crowded) == pytest.approx(1 - 0.5 * math.cos(math.radians(20)))
    assert float(alone) == pytest.approx(1.0)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_a_threshold_holds_its_rate(scores: list[float], rate: float):
    found = Outcome(torch.tensor([True]), torch.tensor([1.0]), {"unrelated": torch.tensor(scores)})
    threshold = found.threshold("unrelated", rate)
    assert found.fires("unrelated", threshold) <= rate * len(scores)


def test_each_kind_has_a_threshold_of_its_own():
    negatives = {"unrelated": torch.tensor([0.1, 0.2]), "neighbour": torch.tensor([0.6, 0.7])}
    found = Outcome(torch.tensor([True, True]), torch.tensor([0.5, 0.9]), negatives)
    assert found.threshold("neighbour", 0.1) == pytest.approx(0.7)
    assert found.at("neighbour", 0.1) == 0.5
    assert found.at("unrelated", 0.1) == 1.0
