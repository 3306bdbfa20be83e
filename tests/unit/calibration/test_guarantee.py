from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen import ConfigError
from horen.calibration.guarantee import certified_threshold, negatives_needed, upper_bound


@pytest.mark.parametrize(
    ("fired", "negatives", "confidence", "expected"),
    [
        # With none of n the bound is 1 − δ^(1/n).
        (0, 100, 0.95, 1 - 0.05**0.01),
        (0, 1, 0.9, 0.9),
        # One of two: the share p with 1 − p² = δ.
        (1, 2, 0.95, math.sqrt(0.95)),
        (5, 5, 0.95, 1.0),
    ],
)
def test_the_bound_by_hand(fired: int, negatives: int, confidence: float, expected: float):
    assert upper_bound(fired, negatives, confidence) == pytest.approx(expected)


def test_the_rule_of_three():
    assert negatives_needed(0.01, 0.95) == 299
    assert upper_bound(0, 299, 0.95) <= 0.01 < upper_bound(0, 298, 0.95)


@given(st.integers(1, 400), st.data())
def test_the_bound_is_above_what_was_seen_and_grows_with_it(negatives: int, data: st.DataObject):
    fired = data.draw(st.integers(0, negatives - 1))
    bound = upper_bound(fired, negatives, 0.95)
    assert fired / negatives < bound < upper_bound(fired + 1, negatives, 0.95) <= 1


def test_the_lowest_threshold_within_the_rate():
    scores = [number / 1000 for number in range(1000)]
    found = certified_threshold(scores, rate=0.05, confidence=0.95)
    assert found.fired == sum(score > found.threshold for score in scores)
    assert found.bound == upper_bound(found.fired, 1000, 0.95) <= 0.05 < upper_bound(found.fired + 1, 1000, 0.95)
    assert (found.negatives, found.rate, found.confidence) == (1000, 0.05, 0.95)
    shuffled = random.Random(0).sample(scores, 1000)  # noqa: S311
    assert certified_threshold(shuffled, rate=0.05, confidence=0.95) == found


def test_equal_scores_fire_together_or_not_at_all():
    found = certified_threshold([0.5] * 60 + [0.1] * 940, rate=0.05, confidence=0.95)
    assert (found.threshold, found.fired) == (0.5, 0)


def test_prompts_that_reach_nothing_count():
    scores = [-math.inf] * 995 + [0.9] * 5
    assert certified_threshold(scores, rate=0.02, confidence=0.95).threshold == -math.inf


def test_the_true_rate_is_within_the_stated_one_as_often_as_stated():
    draws, broken = random.Random(1), 0  # noqa: S311
    for _ in range(600):
        found = certified_threshold([draws.random() for _ in range(300)], rate=0.05, confidence=0.9)
        broken += 1 - found.threshold > 0.05
    # The chance of a miss is at most 0.1: 600 draws stay below 85 but once in a thousand times.
    assert 20 < broken < 85


def test_too_few_negatives():
    with pytest.raises(ConfigError, match=r"298 negatives cannot certify .* 0\.01 .* at least 299"):
        certified_threshold([0.1] * 298, rate=0.01, confidence=0.95)


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan])
def test_rates_and_confidences_that_make_no_sense(value: float):
    with pytest.raises(ConfigError, match=r"rate=.*between 0 and 1"):
        negatives_needed(value, 0.95)
    with pytest.raises(ConfigError, match=r"confidence=.*between 0 and 1"):
        upper_bound(0, 10, value)
    with pytest.raises(ConfigError, match="fired"):
        upper_bound(3, 2, 0.95)
