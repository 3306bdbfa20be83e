from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from horen.bench.metrics.routing import NegativeRoute, PositiveRoute, RocCurve, routing, threshold_at

# Few distinct values, so that ties are common.
ties = st.integers(-3, 6).map(lambda number: number / 2)
numbers = st.one_of(ties, st.floats(-1, 1))
scores = st.lists(numbers, min_size=1, max_size=30)
rates = st.sampled_from([0.05, 0.1, 0.25, 0.29, 0.5, 0.9])
flags = st.booleans()
routes = st.lists(st.builds(PositiveRoute, numbers, flags, flags), min_size=1, max_size=30)


def far(values: list[float]) -> list[NegativeRoute]:
    return [NegativeRoute(value, "far", fired=False) for value in values]


def found_at(positives: list[PositiveRoute], threshold: float) -> float:
    return sum(route.right and route.score > threshold for route in positives) / len(positives)


POSITIVES = [
    PositiveRoute(0.9, right=True, fired=True),
    PositiveRoute(0.8, right=False, fired=True),
    PositiveRoute(0.6, right=True, fired=True),
    PositiveRoute(0.3, right=True, fired=False),
]
NEGATIVES = [
    NegativeRoute(0.7, "far", fired=True),
    NegativeRoute(0.3, "far", fired=False),
    NegativeRoute(0.2, "far", fired=False),
    NegativeRoute(0.1, "far", fired=False),
    NegativeRoute(0.95, "near", fired=True),
]


def test_shares_by_hand():
    found = routing(POSITIVES, NEGATIVES)
    assert found.positives == 4
    assert (found.top_1, found.fire_rate, found.right_fire_rate) == (0.75, 0.75, 0.5)
    assert list(found.kinds) == ["far", "near"]
    assert (found.kinds["far"].negatives, found.kinds["far"].false_fire_rate) == (4, 0.25)
    assert (found.kinds["near"].negatives, found.kinds["near"].false_fire_rate) == (1, 1.0)


def test_curve_and_area_by_hand():
    curve = routing(POSITIVES, NEGATIVES).kinds["far"].curve
    # From 0.9: nothing; 0.7: one found; 0.6: and one false; 0.3: two found; below it a third with a false one; all.
    assert curve == RocCurve(
        thresholds=(0.9, 0.7, 0.6, 0.3, 0.2, -math.inf),
        false_fires=(0.0, 0.0, 0.25, 0.25, 0.5, 1.0),
        found=(0.0, 0.25, 0.25, 0.5, 0.75, 0.75),
    )
    # Pairs won: 0.9 beats 4, 0.6 beats 3, 0.3 beats 2 and ties with 1; of 16, those of the misrouted lost.
    assert routing(POSITIVES, NEGATIVES).kinds["far"].area == pytest.approx((4 + 3 + 2.5) / 16)
    assert routing(POSITIVES, NEGATIVES).kinds["near"].area == 0.0


def test_operating_points_by_hand():
    half, tight = routing(POSITIVES, NEGATIVES, rates=(0.5, 0.25)).kinds["far"].points
    assert (half.rate, half.threshold, half.false_fires, half.generalization) == (0.5, 0.2, 0.5, 0.75)
    assert (tight.threshold, tight.false_fires, tight.generalization) == (0.3, 0.25, 0.5)


def test_a_rate_that_the_negatives_cannot_resolve():
    negatives = far([number / 1000 for number in range(999)])
    fine, middle, coarse = routing(POSITIVES, negatives).kinds["far"].points
    assert (fine.rate, middle.rate, coarse.rate) == (0.001, 0.01, 0.05)
    assert (fine.threshold, fine.false_fires, fine.generalization) == (None, None, None)
    assert middle.threshold == 0.989  # of 999, nine may fire
    assert coarse.threshold == 0.949
    assert routing(POSITIVES, far([0.0] * 1000)).kinds["far"].points[0].threshold == 0.0


@pytest.mark.parametrize(
    ("count", "rate", "allowed"), [(100, 0.29, 29), (1000, 0.001, 1), (300, 0.01, 3), (99, 0.02, 1)]
)
def test_rates_are_decimal_numbers(count: int, rate: float, allowed: int):
    assert threshold_at(list(range(count)), rate) == count - 1 - allowed


def test_ties_keep_the_false_fires_below_the_rate():
    point = routing(POSITIVES, far([0.7] * 9 + [0.0]), rates=(0.5,)).kinds["far"].points[0]
    assert (point.threshold, point.false_fires, point.generalization) == (0.7, 0.0, 0.25)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_rates_outside_their_range(rate: float):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        threshold_at([0.1], rate)


def test_without_positives_only_false_fires_are_known():
    found = routing([], NEGATIVES, rates=(0.25,))
    assert (found.positives, found.top_1, found.fire_rate, found.right_fire_rate) == (0, None, None, None)
    separation = found.kinds["far"]
    assert (separation.false_fire_rate, separation.area, separation.curve) == (0.25, None, None)
    assert (separation.points[0].threshold, separation.points[0].generalization) == (0.3, None)


def test_without_negatives_there_are_no_kinds():
    assert routing(POSITIVES, []).kinds == {}
    assert routing([], []).positives == 0


@pytest.mark.parametrize(
    ("positives", "negatives", "name"),
    [
        ([PositiveRoute(math.nan, right=True, fired=True)], [], "positive"),
        ([], [NegativeRoute(math.nan, "far", fired=False)], "negative"),
    ],
)
def test_scores_that_are_no_number(positives: list[PositiveRoute], negatives: list[NegativeRoute], name: str):
    with pytest.raises(ValueError, match=f"{name} has the score NaN"):
        routing(positives, negatives)


def test_infinite_scores_are_scores_and_the_result_is_json():
    positives = [PositiveRoute(-math.inf, right=True, fired=False), PositiveRoute(1.0, right=True, fired=True)]
    found = routing(positives, far([-math.inf, -math.inf, 0.5]), rates=(0.5,))
    separation = found.kinds["far"]
    assert separation.area == pytest.approx((3 + 2 * 0.5) / 6)
    assert separation.points[0].threshold == -math.inf
    assert separation.points[0].generalization == 0.5
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["top_1"] == 1.0
    assert plain["kinds"]["far"]["points"][0]["threshold"] is None
    assert plain["kinds"]["far"]["curve"]["found"][-1] == 1.0


@given(scores, rates)
def test_the_threshold_is_the_smallest_that_keeps_the_rate(values: list[float], rate: float):
    threshold = threshold_at(values, rate)
    allowed = math.floor(round(rate * 100) * len(values) / 100)
    if allowed == 0:
        assert threshold is None
        return
    candidates = [t for t in values if sum(value > t for value in values) <= allowed]
    assert threshold == min(candidates)
    below = math.nextafter(threshold, -math.inf)
    assert sum(value > below for value in values) > allowed


@given(routes, scores, rates)
def test_what_is_found_agrees_with_a_search_over_all_thresholds(
    positives: list[PositiveRoute], values: list[float], rate: float
):
    point = routing(positives, far(values), rates=(rate,)).kinds["far"].points[0]
    allowed = math.floor(round(rate * 100) * len(values) / 100)
    if allowed == 0:
        assert point.generalization is None
        return
    every = sorted({*values, *(route.score for route in positives)})
    best = max(found_at(positives, t) for t in every if sum(value > t for value in values) <= allowed)
    assert point.generalization == best
    assert point.false_fires is not None
    assert point.false_fires <= rate


@given(routes, scores)
def test_the_curve_rises_from_nothing_to_everything(positives: list[PositiveRoute], values: list[float]):
    found = routing(positives, far(values))
    curve, area = found.kinds["far"].curve, found.kinds["far"].area
    assert curve is not None
    assert area is not None
    assert (curve.false_fires[0], curve.found[0]) == (0.0, 0.0)
    assert (curve.false_fires[-1], curve.found[-1], curve.thresholds[-1]) == (1.0, found.top_1, -math.inf)
    for name, sign in (("thresholds", -1), ("false_fires", 1), ("found", 1)):
        column = getattr(curve, name)
        assert all(sign * a <= sign * b for a, b in pairwise(column))
    assert found.top_1 is not None
    assert 0.0 <= area <= found.top_1 + 1e-12
    for threshold, false, share in list(zip(curve.thresholds, curve.false_fires, curve.found, strict=True))[:-1]:
        assert share == found_at(positives, threshold)
        assert false == sum(value > threshold for value in values) / len(values)


@given(routes, scores)
def test_the_curve_keeps_only_its_corners_and_with_them_its_area(positives: list[PositiveRoute], values: list[float]):
    separation = routing(positives, far(values)).kinds["far"]
    assert separation.curve is not None
    corners = list(zip(separation.curve.false_fires, separation.curve.found, strict=True))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(corners))
    assert area == pytest.approx(separation.area)
    for (x0, y0), (x1, y1), (x2, y2) in zip(corners, corners[1:], corners[2:], strict=False):
        assert abs((x1 - x0) * (y2 - y1) - (x2 - x1) * (y1 - y0)) > 1e-9


@given(scores, scores)
def test_the_area_is_the_mann_whitney_statistic(right: list[float], values: list[float]):
    positives = [PositiveRoute(score, right=True, fired=True) for score in right]
    pairs = len(right) * len(values)
    expected = mannwhitneyu(right, values, method="asymptotic").statistic / pairs if len({*right, *values}) > 1 else 0.5
    area = routing(positives, far(values)).kinds["far"].area
    assert area == pytest.approx(expected)
    turned = [PositiveRoute(score, right=True, fired=True) for score in values]
    assert routing(turned, far(right)).kinds["far"].area == pytest.approx(1 - expected)


@given(routes, scores)
def test_a_misrouted_positive_counts_as_one_below_every_negative(positives: list[PositiveRoute], values: list[float]):
    sunk = [PositiveRoute(p.score if p.right else -1e9, right=True, fired=p.fired) for p in positives]
    found, expected = (routing(p, far(values)).kinds["far"].area for p in (positives, sunk))
    assert found == pytest.approx(expected)
