"""How well a method tells the prompts of its edits from all others.

A prompt fires at threshold τ when its score is greater than τ. A positive (a prompt that belongs to an edit) is found
at τ when it fires and its nearest edit is its own, so one that is nearest to another edit is found at no threshold.
Negatives (prompts that no edit should touch) are judged kind by kind: a rate over all of them would depend on the
mixture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

RATES = (0.001, 0.01, 0.05)


@dataclass(frozen=True)
class PositiveRoute:
    """Where a prompt that belongs to an edit went.

    Attributes:
        score: of its nearest edit, greater is nearer.
        right: whether the nearest edit is its own.
        fired: whether the method applied the nearest edit, at its own threshold.
    """

    score: float
    right: bool
    fired: bool


@dataclass(frozen=True)
class NegativeRoute:
    """Where a prompt that belongs to no edit went.

    Attributes:
        score: of its nearest edit, on the scale of the positives.
        kind: of negative.
        fired: whether the method applied the nearest edit, at its own threshold.
    """

    score: float
    kind: str
    fired: bool


@dataclass(frozen=True)
class RocCurve:
    """Receiver operating characteristic, from where nothing fires to where everything does; straight in between.

    Attributes:
        thresholds: descending; −inf for the last point, at which everything fires.
        false_fires: share of the negatives that fire, ascending from 0 to 1.
        found: share of the positives that are found, ascending from 0 to top-1.
    """

    thresholds: tuple[float, ...]
    false_fires: tuple[float, ...]
    found: tuple[float, ...]


@dataclass(frozen=True)
class OperatingPoint:
    """What is found when false fires are held to a rate; all None when the negatives cannot resolve it.

    Attributes:
        rate: share of the negatives that may fire.
        threshold: see :func:`threshold_at`.
        false_fires: share of them that do fire at it, at most ``rate`` (ties may keep it well below).
        generalization: share of the positives that are found at it; also None without positives.
    """

    rate: float
    threshold: float | None
    false_fires: float | None
    generalization: float | None


@dataclass(frozen=True)
class Separation:
    """The positives against the negatives of one kind.

    Attributes:
        negatives: how many there are, at least 1.
        false_fire_rate: share of them that fired at the method's own threshold.
        area: under the curve; the chance that a positive is routed to its own edit with a greater score than a negative
            (ties count half). None without positives, as is the curve.
        curve: the trade between false fires and found positives.
        points: one for each rate that was asked for.
    """

    negatives: int
    false_fire_rate: float
    area: float | None
    curve: RocCurve | None
    points: tuple[OperatingPoint, ...]


@dataclass(frozen=True)
class RoutingMetrics:
    """Routing of one set of positives; shares are None without positives.

    Attributes:
        positives: how many there are.
        top_1: share whose nearest edit is their own, fired or not.
        fire_rate: share that fired at the method's own threshold, for whichever edit.
        right_fire_rate: share that fired for their own edit.
        kinds: the separation from each kind of negative that occurs.
    """

    positives: int
    top_1: float | None
    fire_rate: float | None
    right_fire_rate: float | None
    kinds: Mapping[str, Separation]

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, which has no infinities: infinite thresholds become None."""
        plain: dict[str, Any] = _without_infinities(asdict(self))
        return plain


def routing(
    positives: Sequence[PositiveRoute], negatives: Sequence[NegativeRoute], *, rates: Sequence[float] = RATES
) -> RoutingMetrics:
    """Judge where a method sent prompts.

    Args:
        positives: prompts that belong to an edit; scores may be infinite but not NaN.
        negatives: prompts that belong to none, of any kinds.
        rates: false-fire rates in (0, 1) at which to state what is found.
    """
    for name, scores in (("positive", [p.score for p in positives]), ("negative", [n.score for n in negatives])):
        if any(math.isnan(score) for score in scores):
            raise ValueError(f"A {name} has the score NaN, with which no threshold can be compared.")
    kinds = dict.fromkeys(route.kind for route in negatives)
    return RoutingMetrics(
        positives=len(positives),
        top_1=_share([route.right for route in positives]),
        fire_rate=_share([route.fired for route in positives]),
        right_fire_rate=_share([route.fired and route.right for route in positives]),
        kinds={kind: _separation(positives, [n for n in negatives if n.kind == kind], rates) for kind in kinds},
    )


def threshold_at(scores: Sequence[float], rate: float) -> float | None:
    """Return the smallest threshold at which at most the share ``rate`` of negatives fires.

    With n scores in descending order s₀ ≥ s₁ ≥ … and k = ⌊rate · n⌋ it is s_k: at most k scores are greater than it,
    and at any smaller threshold s₀ … s_k, k + 1 of them, fire. Where s_k is tied with scores before it, fewer than k
    fire.

    Args:
        scores: [n] of negatives, none of them NaN.
        rate: in (0, 1), taken as the decimal number that it prints as: 0.29 of 100 are 29.

    Returns:
        The threshold, or None when k = 0: fewer than 1 / rate negatives cannot tell this rate from 0.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate={rate} must lie between 0 and 1.")
    allowed = math.floor(Fraction(str(rate)) * len(scores))
    return sorted(scores, reverse=True)[allowed] if allowed else None


def _separation(
    positives: Sequence[PositiveRoute], negatives: Sequence[NegativeRoute], rates: Sequence[float]
) -> Separation:
    right = np.array([route.score for route in positives if route.right], dtype=np.float64)
    others = np.array([route.score for route in negatives], dtype=np.float64)
    curve, area = _roc(right, others, len(positives)) if positives else (None, None)
    return Separation(
        negatives=len(negatives),
        false_fire_rate=sum(route.fired for route in negatives) / len(negatives),
        area=area,
        curve=curve,
        points=tuple(_point(right, others, len(positives), rate) for rate in rates),
    )


def _point(right: NDArray[np.float64], others: NDArray[np.float64], positives: int, rate: float) -> OperatingPoint:
    threshold = threshold_at(others.tolist(), rate)
    if threshold is None:
        return OperatingPoint(rate, None, None, None)
    found = int((right > threshold).sum()) / positives if positives else None
    return OperatingPoint(rate, threshold, float((others > threshold).mean()), found)


def _roc(right: NDArray[np.float64], others: NDArray[np.float64], positives: int) -> tuple[RocCurve, float]:
    """Return the curve and its area, from the scores of positives routed to their own edit and those of negatives."""
    thresholds = np.unique(np.concatenate([right, others]))[::-1]
    # The last point is where everything fires, which a score of -inf would not do at any threshold.
    false = np.append(_greater(others, thresholds), others.size)
    found = np.append(_greater(right, thresholds), right.size)
    thresholds = np.append(thresholds, -np.inf)
    area = float(trapezoid(found, false)) / (positives * others.size)
    # Only where the curve turns is there anything to keep.
    run, rise = np.diff(false), np.diff(found)
    kept = np.concatenate([[True], run[:-1] * rise[1:] != rise[:-1] * run[1:], [True]])
    curve = RocCurve(
        tuple(thresholds[kept].tolist()),
        tuple((false[kept] / others.size).tolist()),
        tuple((found[kept] / positives).tolist()),
    )
    return curve, area


def _greater(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many scores are greater than each threshold, [T]."""
    return scores.size - np.searchsorted(np.sort(scores), thresholds, side="right")


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value
