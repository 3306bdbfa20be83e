"""Thresholds with a stated false-fire rate: exact one-sided bounds from a finite sample of negatives.

It knows scores and nothing of where they come from. What is stated holds for prompts drawn as the negatives were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import beta

from horen.errors import ConfigError


@dataclass(frozen=True)
class Certified:
    """A threshold and what is known of the false fires above it.

    Attributes:
        threshold: τ; a score fires when it exceeds it.
        rate: ε, the share of such negatives that may fire.
        confidence: 1 − δ, the chance over samples that the true share is at most ε.
        negatives: n, size of the sample.
        fired: how many of the sample fire at τ.
        bound: upper confidence bound of the true share at τ, at most ε.
    """

    threshold: float
    rate: float
    confidence: float
    negatives: int
    fired: int
    bound: float


def upper_bound(fired: int, negatives: int, confidence: float) -> float:
    """Return Clopper and Pearson's exact one-sided upper bound of a share, ``fired`` of ``negatives``.

    Raises:
        ConfigError: for counts or a confidence that make no sense.
    """
    _check("confidence", confidence)
    if not 0 <= fired <= negatives or not negatives:
        raise ConfigError(f"fired={fired} of negatives={negatives} is not valid: expected 0 ≤ fired ≤ negatives ≥ 1.")
    return 1.0 if fired == negatives else float(beta.ppf(confidence, fired + 1, negatives - fired))


def negatives_needed(rate: float, confidence: float) -> int:
    """Return the fewest negatives with which ``rate`` can be certified: none of them may fire then.

    Raises:
        ConfigError: for a rate or a confidence outside (0, 1).
    """
    _check("rate", rate)
    _check("confidence", confidence)
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def certified_threshold(scores: Sequence[float], *, rate: float, confidence: float) -> Certified:
    """Return the lowest threshold at which, with ``confidence``, at most ``rate`` of such negatives fires.

    At the k-th greatest of n scores the true share above is at most Beta(k, n − k + 1) distributed, whatever the
    scores' distribution (Wilks 1941), so the greatest k whose bound is within the rate is taken. The bound is that of
    Clopper and Pearson for k − 1 fires.

    Args:
        scores: of independent negatives, finite or −inf.
        rate: ε in (0, 1).
        confidence: 1 − δ in (0, 1).

    Raises:
        ConfigError: when the negatives are too few for the rate, with the number that is needed.
    """
    needed, count = negatives_needed(rate, confidence), len(scores)
    if count < needed:
        raise ConfigError(
            f"{count} negatives cannot certify a false-fire rate of {rate:g} with confidence {confidence:g}: give at "
            f"least {needed}, or allow more."
        )
    low, high = 0, count - 1  # the bound grows with the fires: find the most that are within the rate
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if upper_bound(middle, count, confidence) <= rate else (low, middle - 1)
    threshold = sorted(scores, reverse=True)[low]
    # Equal scores fire together: at a tie fewer fire than were allowed.
    fired = sum(score > threshold for score in scores)
    return Certified(threshold, rate, confidence, count, fired, upper_bound(fired, count, confidence))


def _check(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name}={value!r} is not valid: expected a number between 0 and 1.")
