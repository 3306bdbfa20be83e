"""What a model still knows of ordinary text after it was edited."""

from __future__ import annotations

import math


def perplexity(negative_log_likelihood_sum: float, tokens: int) -> float:
    """Return exp(−Σ log p / n) over the n predicted tokens of a text, natural logarithms; inf if it exceeds a float.

    Sums of several texts may be added up first; the mean of perplexities is another quantity.
    """
    if tokens < 1:
        raise ValueError(f"tokens={tokens} must be at least 1: there is no perplexity of no tokens.")
    try:
        return math.exp(negative_log_likelihood_sum / tokens)
    except OverflowError:
        return math.inf
