"""Means with bootstrap intervals, paired differences of two methods, and the spread over seeds.

A sample holds one value for each record: what a record asks several times is averaged first, since answers that hang
on one edit are not independent. Seeds are arguments; nothing reads or moves a global generator. All results hold only
numbers and None, so ``dataclasses.asdict`` of them is ready for JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

# Efron & Tibshirani 1993 call 1,000 a rough minimum for an interval; fewer leave its ends to chance.
RESAMPLES = 2000
LEVEL = 0.95

# Drawn values held at once, whatever the size of the sample: 64 MiB of float64, and as much of indices.
_DRAWN_AT_ONCE = 2**23

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval.

    Attributes:
        mean: of the sample; None of an empty one.
        low: lower end of the interval; None below two values, which say nothing of their spread.
        high: upper end.
        count: how many values there are.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """By how much one method is ahead of another on the same records.

    Attributes:
        mean: of first minus second; None without records.
        low: lower end of its confidence interval; None below two records.
        high: upper end.
        p: in (0, 1], twice the share of resamples in which the sign of the difference is lost, see
            :func:`difference`; None without records.
        count: how many records there are.
    """

    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    count: int


@dataclass(frozen=True)
class Spread:
    """One score over several seeds.

    Attributes:
        mean: None without values, as are minimum and maximum.
        minimum: the smallest.
        maximum: the greatest.
        std: sample standard deviation (divided by count − 1); None below two values.
        count: how many seeds there are.
    """

    mean: float | None
    minimum: float | None
    maximum: float | None
    std: float | None
    count: int


def estimate(
    values: Sequence[float], *, seed: int | np.random.Generator, level: float = LEVEL, resamples: int = RESAMPLES
) -> Estimate:
    """Return the mean of a sample with its percentile bootstrap interval (Efron 1979).

    Values that are all equal give an interval of that one point: the bootstrap knows nothing but its sample, so beside
    an interval of no width the count is what tells how much to believe.

    Args:
        values: [n] finite numbers, one for each record.
        seed: of the resampling, or a generator to draw from.
        level: share of intervals that shall cover the mean, in (0, 1).
        resamples: how many samples of n values are drawn, at least 1.
    """
    array = _finite("values", values)
    mean, (low, high), _ = _resampled(array, seed, level, resamples)
    return Estimate(mean, low, high, array.size)


def difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int | np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Difference:
    """Return how far ``first`` is ahead of ``second``: their mean difference, by the paired bootstrap (Koehn 2004).

    With D the mean differences of B resamples, p = 2 (1 + min(#{D ≤ 0}, #{D ≥ 0})) / (B + 1), at most 1; the ones keep
    it above 0 (Phipson & Smyth 2010). Of few records all resamples may agree by the smallness of the sample alone, so p
    is at least 2^(1 − n), below which no test of the signs of n differences can go.

    Args:
        first: [n] finite scores of one method, one for each record.
        second: [n] scores of the other, of the same records in the same order.
        seed: of the resampling, or a generator to draw from.
        level: share of intervals that shall cover the difference, in (0, 1).
        resamples: B, at least 1.
    """
    left, right = _finite("first", first), _finite("second", second)
    if left.size != right.size:
        raise ValueError(f"first has {left.size} values and second {right.size}; both must score the same records.")
    mean, (low, high), means = _resampled(left - right, seed, level, resamples)
    if mean is None:
        return Difference(None, None, None, None, 0)
    lost = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p = max(2 * (1 + lost) / (resamples + 1), 2.0 ** (1 - left.size))
    return Difference(mean, low, high, min(1.0, p), left.size)


def over_seeds(values: Sequence[float]) -> Spread:
    """Return the mean, extremes and standard deviation of one score under several seeds, [n] finite numbers."""
    array = _finite("values", values)
    if array.size == 0:
        return Spread(None, None, None, None, 0)
    least, most = float(array.min()), float(array.max())
    mean = least if least == most else float(array.mean())
    std = None if array.size < 2 else 0.0 if least == most else float(array.std(ddof=1))
    return Spread(mean, least, most, std, array.size)


def _finite(name: str, values: Sequence[float]) -> _Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has the shape {list(array.shape)} where one number for each record is expected.")
    if bad := np.flatnonzero(~np.isfinite(array)).tolist():
        raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}, of which there is no mean; leave such records out.")
    return array


def _resampled(
    values: _Array, seed: int | np.random.Generator, level: float, resamples: int
) -> tuple[float | None, tuple[float | None, float | None], _Array]:
    """Return the mean, its percentile interval, and the [resamples] means of the resamples."""
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1.")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1.")
    if values.size == 0:
        return None, (None, None), np.empty(0)
    least, most = float(values.min()), float(values.max())
    if least == most:
        ends = (None, None) if values.size == 1 else (least, least)
        return least, ends, np.full(resamples, least)
    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _DRAWN_AT_ONCE // values.size),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return float(values.mean()), (float(interval.low), float(interval.high)), result.bootstrap_distribution
