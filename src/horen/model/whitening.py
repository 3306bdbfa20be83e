"""Fitting the whitened key space of a model on prompts that ship with the package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from horen.config import HorenConfig
from horen.data import PromptBank
from horen.memory import KeySpace
from horen.model.adapter import Adapter
from horen.model.batching import read_in_batches
from horen.model.contexts import Contexts
from horen.model.prompts import Prompt, PromptReader

_UNRELATED = 1024
_GROUPS = 158  # one for each relation of the bank
_BATCH = 32
SHRINKAGE = 0.1
NUISANCE = 0.5


def fit_key_space(
    adapter: Adapter, reader: PromptReader, contexts: Contexts, bank: PromptBank, config: HorenConfig
) -> KeySpace:
    """Measure how this model reads unrelated prompts and rephrases, and undo it (see KeySpace.whitened).

    Rephrases are read in plain text, in chat and after unrelated paragraphs, so that what the surroundings do to a
    feature counts as wording, not as meaning. Nothing is drawn at random: the same model gives the same space.
    """
    background = pooled(adapter, reader, [contexts.plain(text) for text in bank.unrelated(_UNRELATED)])
    rows: list[list[int]] = []
    sizes: list[int] = []
    for number, group in enumerate(bank.paraphrases(_GROUPS)):
        paragraph = bank.paragraphs[number % len(bank.paragraphs)]
        readings = [contexts.plain(text) for text in group]
        if number % 2 or not contexts.has_chat:
            readings.append(contexts.plain(f"{paragraph} {group[0]}"))
        else:
            readings.append(contexts.chat([{"role": "user", "content": group[number % len(group)]}]))
        rows.extend(readings)
        sizes.append(len(readings))
    # After a paragraph it is the last sentence that asks; a paragraph's own words would say nothing of the wording.
    features = pooled(adapter, reader, rows, last=True)
    return KeySpace.whitened(
        background,
        list(torch.split(features, sizes)),
        dimension=config.key_dimension,
        shrinkage=SHRINKAGE,
        nuisance=NUISANCE,
        power=config.feature_power,
        blocks=adapter.reads.sizes,
    )


def pooled(adapter: Adapter, reader: PromptReader, rows: Sequence[Sequence[int]], *, last: bool = False) -> Tensor:
    """Return one feature a row, [B, d_f] float32: of the user's words, or of their last sentence."""
    spans = [_span(reader.read(row), last=last) for row in rows]
    return read_in_batches(
        rows, _BATCH, lambda batch: adapter.features([rows[i] for i in batch], [[spans[i]] for i in batch])
    )


def _span(prompt: Prompt, *, last: bool) -> tuple[int, int]:
    return prompt.spans[-1 if last else 0]
