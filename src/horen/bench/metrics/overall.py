"""The one number by which the field ranks editors."""

from __future__ import annotations


def overall(reliability: float | None, generalization: float | None, locality: float | None) -> float | None:
    """Return the mean of the three scores; None when one was not measured, since two are another quantity."""
    if reliability is None or generalization is None or locality is None:
        return None
    return (reliability + generalization + locality) / 3
