"""Values that replace a layer's output, trained by the optimiser of values that are added to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.baselines.grace.adapter import GraceAdapter
from horen.baselines.grace.config import GraceConfig
from horen.model.tail import Sample, Tail, bfloat16_is_fast
from horen.training import train_checked, train_values

# Logits dominate memory where the vocabulary is large: half a gigabyte of float32, a few times over.
_MOST_LOGITS = 2**27


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
        outputs: [B, d_v] float32, h at each sample's last prompt token.
    """

    def __init__(self, tail: Tail, outputs: Tensor) -> None:
        self._tail, self._outputs = tail, outputs

    def __len__(self) -> int:
        return len(self._tail)

    @property
    def scale(self) -> Tensor:
        """Root mean square of h, [B] float32."""
        return self._tail.scale

    def keep(self, rows: Tensor) -> Replacing:
        """The same for some of the samples only; [b] int64 indices."""
        return Replacing(self._tail.keep(rows), self._outputs[rows.to(self._outputs.device)])

    def rough(self) -> Replacing:
        """The same in bfloat16 arithmetic."""
        return Replacing(self._tail.rough(), self._outputs)

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
    vocabulary = int(adapter.model.config.get_text_config(decoder=True).vocab_size)
    tokens = min(config.batch_tokens, max(_MOST_LOGITS // vocabulary, 1))
    values: dict[int, Tensor] = {}
    for batch in _batches(lessons, tokens):
        samples = [lessons[i].sample for i in batch]
        outputs = adapter.outputs([sample.prompt for sample in samples])
        objective = Replacing(Tail(adapter.model, adapter.layout, adapter.write, samples), outputs)
        starts = outputs
        if config.start == "uniform":
            starts = torch.stack([_uniform(lessons[i].prompt, outputs.shape[1], seed) for i in batch])
        owner = list(range(len(batch)))
        if config.precision == "auto" and bfloat16_is_fast(adapter.model):
            trained = train_checked(objective.rough(), objective, owner, starts, settings)
        else:
            trained = train_values(objective, owner, starts, settings)
        values.update(zip(batch, (item.value for item in trained), strict=True))
    return [values[i] for i in range(len(lessons))]


def _uniform(prompt: str, size: int, seed: int) -> Tensor:
    # Seeded by the prompt, so that a value does not depend on its neighbours in a list.
    digest = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)
    return torch.rand(size, generator=generator)


def _batches(lessons: Sequence[Lesson], tokens: int) -> Iterator[list[int]]:
    """Numbers of lessons of like length together, each batch of at most ``tokens`` padded target positions."""
    batch: list[int] = []
    for number in sorted(range(len(lessons)), key=lambda i: len(lessons[i].sample.target)):
        if batch and (len(batch) + 1) * len(lessons[number].sample.target) > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
