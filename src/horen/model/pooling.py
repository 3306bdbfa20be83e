"""Pooling: the activations of a prompt's tokens averaged into its feature, each token by its weight.

It is fitted on texts alone and knows neither a model nor a codebook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

# How common a token is when its weight has fallen to one half.
_COMMON = 5e-4


@dataclass(frozen=True)
class Pooling:
    """f = Σ w(t) h_t / Σ w(t) over the last ⌈p·n⌉ of a span's n tokens.

    Attributes:
        share: p in [0, 1]; 0 is the last token alone.
        weights: [V] float32, the weight of each token id; None weighs all alike.
    """

    share: float
    weights: Tensor | None = None

    def __call__(self, states: Tensor, ids: Sequence[int]) -> Tensor:
        """Return the feature [d_f] float32 of a span's activations [n, d_f], n ≥ 1, and its token ids.

        Ids below 0 stand for embeddings that have none: they are weighed alike.
        """
        kept = max(1, math.ceil(self.share * len(ids)))
        rows = states[-kept:].float()
        if self.weights is None or ids[0] < 0:
            return rows.mean(0)
        known = self.weights
        if max(ids) >= len(known):
            known = for_vocabulary(known, max(ids) + 1)
        weights = known[list(ids[-kept:])].to(rows.device)
        return (weights / weights.sum()) @ rows


def rare_weights(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], vocabulary: int) -> Tensor:
    """Return weights w(t) = a / (a + p(t)), [V] float32 (SIF, Arora et al. 2017).

    p(t) is a token's share of ``texts``. What every question is made of then counts little, and what names its subject
    counts most.

    Args:
        tokenizer: of the model whose activations are pooled.
        texts: plain sentences.
        vocabulary: V, at least one more than the greatest token id.
    """
    # Read with and without a blank in front, because many tokenizers know a word by two ids.
    rows = tokenizer([read for text in texts for read in (text, f" {text}")], add_special_tokens=False)["input_ids"]
    counts = torch.bincount(torch.tensor([token for row in rows for token in row]), minlength=vocabulary)
    share_of = counts.float() / counts.sum().clamp(min=1)
    return _COMMON / (_COMMON + share_of)


def for_vocabulary(weights: Tensor, vocabulary: int) -> Tensor:
    """Return weights [V] of a vocabulary that has grown since or shrunk.

    Tokens that were added count as the rarest do.
    """
    if len(weights) == vocabulary:
        return weights
    added = weights.new_ones(max(vocabulary - len(weights), 0))
    return torch.cat([weights, added])[:vocabulary]
