"""Values that replace a layer's output, trained by the optimiser of values that are added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.baselines.grace.adapter import GraceAdapter
from horen.baselines.grace.config import GraceConfig
from horen.model.precision import trains_roughly
from horen.model.prefix import Prefixes
from horen.model.tail import Sample, Tail
from horen.training import packed, seeded, train_checked, train_values


@dataclass(frozen=True)
class Lesson:
    """What one value is trained on.

    Attributes:
        prompt: the wording that seeds where it starts.
        sample: token ids of prompt and target.
    """

    prompt: str
    sample: Sample


class Replacing:
    """The objective −log p(target | prompt) of values V that take the place of the layer's output h.

    What :class:`horen.model.tail.Tail` writes is h + v, so it is given v = V − h: the gradient is the same.

    Args:
        tail: of the samples.
    """

    def __init__(self, tail: Tail) -> None:
        self._tail, self._outputs = tail, tail.outputs

    def __len__(self) -> int:
        return len(self._tail)

    @property
    def scale(self) -> Tensor:
        """Root mean square of h, [B] float32."""
        return self._tail.scale

    def keep(self, rows: Tensor) -> Replacing:
        """The same for some of the samples only; [b] int64 indices."""
        return Replacing(self._tail.keep(rows))

    def rough(self) -> Replacing:
        """The same in bfloat16 arithmetic."""
        return Replacing(self._tail.rough())

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] log-probabilities of target tokens and the [B, T] mask of tokens, from [B, d_v] values."""
        return self._tail.log_probabilities(values - self._outputs)


def train(adapter: GraceAdapter, lessons: Sequence[Lesson], config: GraceConfig, seed: int) -> list[Tensor]:
    """A value [d_v] float32 for each lesson, in order.

    Args:
        adapter: of a model that is quiet, see :func:`horen.model.adapter.quiet`.
        lessons: what to train.
        config: the settings.
        seed: of the random start, together with each lesson's prompt.
    """
    settings = adapter.config
    rough = trains_roughly(adapter.model, settings)
    prefixes = Prefixes(adapter.model, [lesson.sample.prompt[:-1] for lesson in lessons], rough=rough)
    vocabulary = int(adapter.model.config.get_text_config(decoder=True).vocab_size)
    values: dict[int, Tensor] = {}
    for batch in packed([[len(lesson.sample.target)] for lesson in lessons], config.batch_tokens, vocabulary):
        samples = [lessons[i].sample for i in batch]
        tail = Tail(adapter.model, adapter.layout, adapter.write, samples, prefixes)
        objective, starts = Replacing(tail), tail.outputs
        if config.start == "uniform":
            draws = [seeded(f"{seed}:{lessons[i].prompt}") for i in batch]
            starts = torch.stack([torch.rand(tail.value_size, generator=draw) for draw in draws])
        owner = list(range(len(batch)))
        if rough:
            trained = train_checked(objective.rough(), objective, owner, starts, settings)
        else:
            trained = train_values(objective, owner, starts, settings)
        values.update(zip(batch, (item.value for item in trained), strict=True))
    return [values[i] for i in range(len(lessons))]
