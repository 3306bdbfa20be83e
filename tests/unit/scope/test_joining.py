from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from horen.model.zoo.encoder import load_scope
from horen.scope.judging import FIRST, WHOLE
from horen.scope.reader import Scope
from horen.scope.training.joining import Probe, gathered, join, near, parting, rates
from support.scopes import save_scope

STORED = ["The capital of France is", "Who wrote Hamlet?", "Seven green boats belong to"]
PROBES = [
    Probe("the capital of france is", 0, (0,)),
    Probe("who wrote hamlet", 1, (1,)),
    Probe("seven green boats belong to", 2, (2,)),
    Probe("Where do people in France swim when it is hot?", None, (0,)),
    Probe("apple banana cherry", None, ()),
    Probe("What colour is the sky at noon?", None, ()),
]


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    return load_scope(str(save_scope(tmp_path_factory.mktemp("scope")))).scope


def test_evidence_of_every_pair_that_is_near(scope: Scope):
    evidence, own, about = gathered(scope, STORED, PROBES)
    assert evidence.shape == (len(PROBES) * 3, len(WHOLE))
    assert own.sum() == 3
    assert about.sum() == 4
    assert [sorted(row) for row in near(scope, STORED, PROBES).rows] == [[0, 1, 2]] * len(PROBES)


def test_rates_count_what_fires(scope: Scope):
    seen = rates(scope, STORED, PROBES, 0.5)
    assert (seen.own, seen.about, seen.other, seen.asked) == (1.0, 0.0, 0.0, (3, 1, 2))
    everything = rates(scope, STORED, PROBES, -1.0)
    assert (everything.about, everything.other) == (1.0, 1.0)
    assert rates(scope, STORED, PROBES, 1.0).own == 0.0


def test_what_is_not_worth_a_check_does_not_fire(scope: Scope):
    judge = scope.judge
    scope.judge = replace(judge, unlikely=0.9999)
    try:
        assert rates(scope, STORED, PROBES, 0.5).own == 0.0
    finally:
        scope.judge = judge


def test_a_joined_score_tells_apart_what_it_was_fitted_on(scope: Scope):
    judge = join(scope, STORED, PROBES * 20)
    evidence, own, _ = gathered(scope, STORED, PROBES)
    scores = judge.whole(evidence)
    assert scores[own].min() > scores[~own].max()
    assert 0 <= judge.unlikely <= 0.2
    signs = dict(zip(WHOLE, judge.whole.weights, strict=True))
    assert all(weight <= 0 for name, weight in signs.items() if name.startswith(("missing", "extra")))
    assert all(weight >= 0 for name, weight in signs.items() if not name.startswith(("missing", "extra")))
    assert len(judge.first.weights) == len(FIRST)


def test_above_the_zero_the_stated_share_of_what_must_not_fire_does():
    scores = torch.linspace(0.99, 0.01, 99)
    beside = torch.arange(99) < 50
    zero = 1 / (1 + math.exp(-parting(scores, beside)))
    assert int((scores[beside] > zero + 1e-6).sum()) == 5
    assert zero == pytest.approx(float(scores[5]))
    assert 1 / (1 + math.exp(-parting(torch.ones(3), torch.ones(3, dtype=torch.bool)))) == pytest.approx(1.0, abs=1e-5)
