"""Training a shard of a side memory: the edits' target tokens and the margins of the routing score, in its subspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from horen.editing.training import packed
from horen.editors.wise.adapter import WiseAdapter
from horen.editors.wise.config import WiseConfig
from horen.editors.wise.memory import Margins, activation_scores
from horen.model.partial.tail import Sample, Tail


@dataclass(frozen=True)
class Scale:
    """What margins and steps are measured in.

    Attributes:
        length: of margins.
        step: of a weight, for a learning rate of 1.
    """

    length: float
    step: float


@dataclass(frozen=True)
class Passage:
    """Some of a batch's samples: what lies above the layer, and [B, S, d_k] float32 inputs of the down projection."""

    tail: Tail
    activations: Tensor


@dataclass(frozen=True)
class Lessons:
    """What a batch is trained on.

    Attributes:
        passages: its samples.
        edited: [E, d_k] features A(x_e) of its wordings.
        irrelevant: [R, d_k] features A(x_i).
    """

    passages: Sequence[Passage]
    edited: Tensor
    irrelevant: Tensor


def scale_of(adapter: WiseAdapter, features: Tensor, config: WiseConfig) -> Scale:
    """Return the units of margins and steps, from [R, d_k] features of irrelevant prompts."""
    if config.unit == "absolute":
        return Scale(1.0, 1.0)
    weight = next(adapter.down.parameters())
    with torch.no_grad():
        outputs = adapter.down(features.to(weight.device, weight.dtype)).float()
    largest = features.abs().sum(-1).mean()
    return Scale(float(outputs.norm(dim=-1).mean()), float(outputs.square().mean().sqrt() / largest))


def passages(adapter: WiseAdapter, samples: Sequence[Sample], config: WiseConfig) -> list[Passage]:
    """Return the samples in parts that fit into memory; the model is quiet.

    The side memory holds for all of a prompt's tokens, so nothing of it can be cached above the layer: to the tail a
    sample is its first token, and the rest of its prompt is read without being asked for.
    """
    vocabulary = int(adapter.model.config.get_text_config(decoder=True).vocab_size)
    found = []
    for batch in packed([[len(sample.target)] for sample in samples], config.batch_tokens, vocabulary):
        own = [samples[i] for i in batch]
        whole = [Sample(s.prompt[:1], s.prompt[1:] + s.target, len(s.prompt) - 1) for s in own]
        rows = [sample.prompt + sample.target[:-1] for sample in own]
        activations = pad_sequence(adapter.inputs(rows), batch_first=True)
        found.append(Passage(Tail(adapter.model, adapter.layout, adapter.write, whole), activations))
    return found


def train(
    change: Tensor, base: Tensor | None, mask: Tensor, lessons: Lessons, config: WiseConfig, scale: Scale
) -> Tensor:
    """Return a shard's change [d_v, d_k]: L_edit = −log P(y_e | x_e) + L_a, descended in its subspace (equation 7).

    A step after which the loss has no finite gradient is taken back and is the last: a fixed rate may be too large.

    Args:
        change: what it is before.
        base: what it is a change of, besides the layer's own weights.
        mask: [d_v, d_k] bool, the subspace.
        lessons: of the batch.
        config: the settings.
        scale: units.
    """
    values = change.clone().requires_grad_()
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    optimizer: torch.optim.Optimizer = kind([values], lr=config.learning_rate * scale.step)
    margins = Margins(*(scale.length * margin for margin in (config.alpha, config.beta, config.gamma)))
    last = change
    for _ in range(config.max_steps):
        gradient, worst = _spoken(values, base, lessons.passages)
        difference = values if base is None else base + values
        edited, other = (activation_scores(f, difference) for f in (lessons.edited, lessons.irrelevant))
        if worst >= config.stop_probability and config.stop_probability < 1 and margins.kept(edited, other):
            break
        gradient += torch.autograd.grad(margins.loss(edited, other), values)[0]
        if not gradient.isfinite().all():
            return last
        last = values.detach().clone()
        values.grad = gradient * mask
        optimizer.step()
    return values.detach()


def _spoken(values: Tensor, base: Tensor | None, parts: Sequence[Passage]) -> tuple[Tensor, float]:
    """Gradient of a target token's mean −log P, averaged over the samples, and the lowest of their probabilities."""
    gradient, worst = torch.zeros_like(values), 0.0
    count = sum(len(part.tail) for part in parts)
    for part in parts:
        difference = values if base is None else base + values
        logs, real = part.tail.log_probabilities(part.activations @ difference.T)
        loss = -(logs.sum(-1) / real.sum(-1)).sum() / count
        gradient += torch.autograd.grad(loss, values)[0]
        worst = min(worst, float(logs.detach().min()))
    return gradient, float(torch.tensor(worst).exp())
