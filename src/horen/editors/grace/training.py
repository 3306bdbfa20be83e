"""Values that replace a layer's output, trained by the optimiser of values that are added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.editing.training import packed, seeded, train_checked, train_values
from horen.editors.grace.adapter import GraceAdapter
from horen.editors.grace.config import GraceConfig
from horen.model.partial.precision import fastest, for_reading
from horen.model.partial.prefix import Prefixes
from horen.model.partial.tail import Sample, Tail


@dataclass(frozen=True)
class Lesson:
    """What one value is trained on.

    Attributes:
        prompt: the wording that seeds where it starts.
        sample: token ids of prompt and target.
    """

    prompt: str
    sample: Sample


def train(adapter: GraceAdapter, lessons: Sequence[Lesson], config: GraceConfig, seed: int) -> list[Tensor]:
    """Return a value [d_v] float32 for each lesson, in order.

    Args:
        adapter: of a model that is quiet, see :func:`horen.model.quiet.quiet`.
        lessons: what to train.
        config: the settings.
        seed: of the random start, together with each lesson's prompt.
    """
    settings = adapter.config
    fast, reading = fastest(adapter.model, settings), for_reading(adapter.model, settings)
    prefixes = Prefixes(adapter.model, [lesson.sample.prompt[:-1] for lesson in lessons], reading=reading)
    vocabulary = int(adapter.model.config.get_text_config(decoder=True).vocab_size)
    values: dict[int, Tensor] = {}
    for batch in packed([[len(lesson.sample.target)] for lesson in lessons], config.batch_tokens, vocabulary):
        samples = [lessons[i].sample for i in batch]
        tail = Tail(adapter.model, adapter.layout, adapter.write, samples, prefixes)
        starts = tail.outputs
        if config.start == "uniform":
            draws = [seeded(f"{seed}:{lessons[i].prompt}") for i in batch]
            starts = torch.stack([torch.rand(tail.value_size, generator=draw) for draw in draws])
        owner = list(range(len(batch)))
        if fast is not None:
            trained = train_checked(tail.rough(tail.fast(fast)), tail, owner, starts, settings)
        else:
            trained = train_values(tail, owner, starts, settings)
        values.update(zip(batch, (item.value for item in trained), strict=True))
    return [values[i] for i in range(len(lessons))]
