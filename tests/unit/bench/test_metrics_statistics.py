from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.bench.metrics.statistics import Difference, Estimate, Spread, difference, estimate, over_seeds

pytestmark = pytest.mark.filterwarnings("error")

samples = st.lists(st.floats(-10, 10), min_size=2, max_size=20)


def test_an_interval_by_hand():
    # Of n = 2 values 0 and 1 the means of resamples are 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    assert estimate([0.0, 1.0], seed=0, level=0.9) == Estimate(0.5, 0.0, 1.0, 2)
    assert estimate([0.0, 1.0], seed=0, level=0.4) == Estimate(0.5, 0.5, 0.5, 2)


def test_an_interval_is_near_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(3.0, 2.0, 4000)
    found = estimate(values.tolist(), seed=2)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(3)
    found = [estimate(rng.random(60).tolist(), seed=rng, level=0.8, resamples=300) for _ in range(200)]
    covered = sum(e.low <= 0.5 <= e.high for e in found if e.low is not None and e.high is not None)
    assert 0.70 <= covered / 200 <= 0.90


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Estimate(None, None, None, 0)),
        ([0.3], Estimate(0.3, None, None, 1)),
        ([0.1] * 7, Estimate(0.1, 0.1, 0.1, 7)),
        ([True, True], Estimate(1.0, 1.0, 1.0, 2)),
    ],
)
def test_samples_without_a_spread(values: list[float], expected: Estimate):
    assert estimate(values, seed=0) == expected


@given(samples, st.integers(0, 2**32 - 1))
def test_an_interval_lies_within_the_sample_and_follows_its_seed(values: list[float], seed: int):
    found = estimate(values, seed=seed, resamples=100)
    assert found == estimate(values, seed=np.random.default_rng(seed), resamples=100)
    assert found.low is not None
    assert found.high is not None
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)


def test_no_global_generator_is_read_or_moved():
    np.random.seed(0)  # noqa: NPY002
    first = estimate([0.0, 0.5, 1.0], seed=5)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == drawn  # noqa: NPY002
    assert estimate([0.0, 0.5, 1.0], seed=5) == first


def test_a_wider_level_is_a_wider_interval():
    values = np.random.default_rng(0).random(50).tolist()
    narrow: Any = estimate(values, seed=0, level=0.5)
    wide: Any = estimate(values, seed=0, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_sample_larger_than_what_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).random(500)
    whole = estimate(values.tolist(), seed=0)
    monkeypatch.setattr("horen.bench.metrics.statistics._DRAWN_AT_ONCE", 1000)
    parts = estimate(values.tolist(), seed=0)
    assert parts.low == pytest.approx(whole.low, abs=0.005)
    assert parts.high == pytest.approx(whole.high, abs=0.005)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_without_a_mean_are_refused(bad: float):
    with pytest.raises(ValueError, match=r"values\[1\] is .*leave such records out"):
        estimate([0.0, bad], seed=0)
    with pytest.raises(ValueError, match=r"second\[0\]"):
        difference([0.0], [bad], seed=0)


@pytest.mark.parametrize("settings", [{"level": 0.0}, {"level": 1.0}, {"level": 95}, {"resamples": 0}])
def test_settings_outside_their_range(settings: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(settings))):
        estimate([0.0, 1.0], seed=0, **settings)


def test_values_of_another_shape():
    table: Any = [[0.0, 1.0]]
    with pytest.raises(ValueError, match=r"shape \[1, 2\]"):
        estimate(table, seed=0)


# --- paired differences -------------------------------------------------------------------------------------------


def test_a_clear_difference():
    rng = np.random.default_rng(0)
    second = rng.random(200)
    first = second + rng.normal(0.1, 0.05, 200)
    found: Any = difference(first.tolist(), second.tolist(), seed=0)
    assert found.mean == pytest.approx((first - second).mean())
    assert 0.08 < found.low < 0.1 < found.high < 0.12
    assert found.p == pytest.approx(2 / 2001)


def test_pairing_sees_what_the_spread_between_records_hides():
    second = np.linspace(0, 1, 30)
    first = second + np.tile([0.01, 0.03], 15)
    paired: Any = difference(first.tolist(), second.tolist(), seed=0)
    apart: Any = estimate(first.tolist(), seed=0)
    assert paired.p < 0.01
    assert apart.low < second.mean()


def test_p_by_hand():
    # Of differences 1, 0, 0 a resample misses the 1 with chance (2/3)³ = 8/27; never is one below 0.
    found = difference([1, 0, 0], [0, 0, 0], seed=0, resamples=20_000)
    assert found.p == pytest.approx(2 * 8 / 27, abs=0.02)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [], Difference(None, None, None, None, 0)),
        ([0.5], [0.2], Difference(0.3, None, None, 1.0, 1)),
        ([0.5, 0.7], [0.5, 0.7], Difference(0.0, 0.0, 0.0, 1.0, 2)),
        ([1.0] * 5, [0.0] * 5, Difference(1.0, 1.0, 1.0, 1 / 16, 5)),
        ([1.0] * 50, [0.0] * 50, Difference(1.0, 1.0, 1.0, 2 / 2001, 50)),
    ],
)
def test_differences_without_a_spread(first: list[float], second: list[float], expected: Difference):
    found = difference(first, second, seed=0)
    assert asdict(found) == pytest.approx(asdict(expected))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20), st.integers(0, 1000))
def test_a_difference_turned_round_is_its_negative(pairs: list[tuple[float, float]], seed: int):
    first, second = map(list, zip(*pairs, strict=True))
    found: Any = difference(first, second, seed=seed, resamples=101)
    turned: Any = difference(second, first, seed=seed, resamples=101)
    assert found.mean == pytest.approx(-turned.mean)
    assert found.low == pytest.approx(-turned.high)
    assert found.p == turned.p
    assert 0 < found.p <= 1


def test_methods_that_differ_by_chance_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    pairs = (rng.integers(0, 2, (2, 80)).tolist() for _ in range(100))
    found: list[Any] = [difference(a, b, seed=rng, resamples=300) for a, b in pairs]
    assert sum(each.p < 0.05 for each in found) <= 15


def test_other_records_are_refused():
    with pytest.raises(ValueError, match="first has 2 values and second 1"):
        difference([0.0, 1.0], [0.0], seed=0)


# --- seeds --------------------------------------------------------------------------------------------------------


def test_seeds_by_hand():
    assert asdict(over_seeds([1.0, 2.0, 4.5])) == pytest.approx(asdict(Spread(2.5, 1.0, 4.5, math.sqrt(3.25), 3)))
    assert over_seeds([]) == Spread(None, None, None, None, 0)
    assert over_seeds([0.7]) == Spread(0.7, 0.7, 0.7, None, 1)
    assert over_seeds([0.1] * 3) == Spread(0.1, 0.1, 0.1, 0.0, 3)


@given(samples)
def test_the_mean_of_seeds_lies_between_the_extremes(values: list[float]):
    found: Any = over_seeds(values)
    assert found.minimum - 1e-12 <= found.mean <= found.maximum + 1e-12
    assert 0 <= found.std <= (found.maximum - found.minimum)
