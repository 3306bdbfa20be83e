"""What methods are trained on: wordings with their targets as plain text, and the loss of target tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from horen.config import HorenConfig
from horen.edits import Edit
from horen.model.contexts import Contexts
from horen.model.partial.tail import Sample


def plain_samples(contexts: Contexts, edits: Sequence[Edit], *, end: bool) -> list[Sample]:
    """Return prompt and target of edits as plain text, one of each wording; ``end`` adds the end token.

    Raises:
        EditError: for a wording or target that cannot be encoded, or has no room.
    """
    config, found = HorenConfig(contexts="prompt", train_end=end), []
    for edit in edits:
        contexts.wordings(edit)  # which says what is wrong with a wording
        for wording in dict.fromkeys((edit.prompt, *edit.rephrases)):
            found += contexts.samples(Edit(wording, edit.target), config)
    return found


def target_labels(samples: Sequence[Sample], width: int) -> Tensor:
    """Return [B, width] int64: the token to predict at each column of left-padded rows, −1 where none is asked for."""
    labels = torch.full((len(samples), width), -1)
    for row, sample in zip(labels, samples, strict=True):
        asked = torch.tensor(sample.target[sample.lead :])
        row[width - len(asked) :] = asked
    return labels


def summed_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return −log p(target | prompt) of each row in nats, [B] float32, of [B, S, V] logits and [B, S] labels."""
    asked = labels >= 0
    each = cross_entropy(logits[asked].float(), labels[asked], reduction="none")
    return torch.zeros(labels.shape, device=logits.device).masked_scatter(asked, each).sum(-1)
