"""Stage one of UnKE: the hidden states with which a model generates its targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from horen.editing.training import Trained, packed, train_checked, train_values
from horen.editors.unke.config import UnkeConfig
from horen.model.layout import Layout, Site
from horen.model.partial.precision import fastest
from horen.model.partial.tail import Sample, Tail


def find_shifts(
    model: PreTrainedModel, layout: Layout, site: Site, samples: Sequence[Sample], config: UnkeConfig
) -> list[Trained]:
    """Return each sample's shift δ [d_v] of the site's output at the prompt's end that makes its target likely.

    Args:
        model: in evaluation mode, with weights that take no gradient.
        layout: where its layers are.
        site: whose output is shifted.
        samples: token ids of prompts and targets.
        config: how δ is trained; it starts at 0, so a target that the model is sure of needs none.
    """
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    found: dict[int, Trained] = {}
    fast = fastest(model, config)
    for batch in packed([[len(sample.target)] for sample in samples], config.batch_tokens, vocabulary):
        tail = Tail(model, layout, site, [samples[i] for i in batch])
        owner, start = list(range(len(batch))), torch.zeros(len(batch), tail.value_size)
        if fast is not None:
            trained = train_checked(tail.rough(tail.fast(fast)), tail, owner, start, config)
        else:
            trained = train_values(tail, owner, start, config)
        found.update(zip(batch, trained, strict=True))
    return [found[i] for i in range(len(samples))]
