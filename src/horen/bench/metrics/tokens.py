"""Scores on token ids, for comparison with published tables, and on next-token distributions.

Agreement is a legacy column: cut to the target's length an answer cannot run on, so it is kinder than the comparison of
a freely generated answer is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def token_agreement(generated: Sequence[int], target: Sequence[int]) -> float:
    """Return the share of the target's positions at which ``generated`` has the target's token, in [0, 1].

    It is how arXiv 2605.08143 scores answers generated to the target's length. Positions that ``generated`` does not
    reach are wrong, and what it has beyond the target is ignored.
    """
    if not target:
        raise ValueError("The target has no tokens, so there is nothing to agree with.")
    return sum(ours == theirs for ours, theirs in zip(generated, target, strict=False)) / len(target)


def identical(a: Sequence[int], b: Sequence[int]) -> bool:
    """Return whether two answers are the same, token by token."""
    return list(a) == list(b)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(P‖Q) = Σ p (log p − log q) − p + q in nats, at least 0 (Kullback & Leibler 1951).

    Both rows sum to 1, so −p + q adds nothing but what rounding took from that sum, to first order the whole error of
    a small divergence in float32. A token that P excludes (log p = −inf) adds no more than q, and one that Q alone
    excludes makes the divergence inf.

    Args:
        log_p: [n, V] logarithms of the reference's probabilities.
        log_q: [n, V] logarithms of the others.

    Returns:
        [n] float32.
    """
    if log_p.shape != log_q.shape or log_p.dim() != 2:
        shapes = f"{list(log_p.shape)} and {list(log_q.shape)}"
        raise ValueError(f"The shapes of log_p and log_q are {shapes}; both must be [n, V].")
    log_p, log_q = log_p.float(), log_q.float()
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - log_q), 0.0) - p + log_q.exp()
    return terms.sum(-1).clamp_min(0.0)
