"""Training g and o of DEFER on a batch of edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from horen.editing.training import packed
from horen.editors.common.gated import GatedAdapter
from horen.editors.defer.config import DeferConfig
from horen.editors.defer.gate import Deferral
from horen.model.partial.tail import Sample, Tail


@dataclass(frozen=True)
class Lessons:
    """What a batch is trained on.

    Attributes:
        tails: its samples in parts that fit into memory, with the numbers of theirs.
        edited: [E, d_k] features of the samples' prompts.
        irrelevant: [R, d_k] features of prompts that are to be left alone.
    """

    tails: Sequence[tuple[Tail, list[int]]]
    edited: Tensor
    irrelevant: Tensor


def tails(
    adapter: GatedAdapter[Deferral], samples: Sequence[Sample], config: DeferConfig
) -> list[tuple[Tail, list[int]]]:
    """Return the samples in parts that fit into memory; the model is quiet."""
    vocabulary = int(adapter.model.config.get_text_config(decoder=True).vocab_size)
    return [
        (Tail(adapter.model, adapter.layout, adapter.write, [samples[i] for i in batch]), batch)
        for batch in packed([[len(sample.target)] for sample in samples], config.batch_tokens, vocabulary)
    ]


def train(before: Deferral, lessons: Lessons, config: DeferConfig) -> Deferral:
    """Return g and o after a batch: −log p(target | prompt) where o answers, and g's cross-entropy.

    The two losses share no weight, so their sum trains both jointly. Weights are those of features over their root mean
    square s, which a rate then fits whatever the model.
    """
    features = torch.cat([lessons.edited, lessons.irrelevant])
    s = features.square().mean().sqrt()
    size = torch.ones_like(s)
    reach = size
    if config.unit == "site":
        size = torch.cat([tail.scale for tail, _ in lessons.tails]).mean().to(s.device)
        reach = (lessons.edited / s).abs().sum(-1).mean()
    scaled = replace(before, gate=before.gate * s, weight=before.weight * s)
    values = [tensor.clone().requires_grad_() for tensor in scaled.tensors().values()]
    gate, gate_bias, weight, bias = values
    optimizer = torch.optim.Adam(
        [
            {"params": [gate, gate_bias], "lr": config.gate_rate},
            {"params": [weight], "lr": float(config.learning_rate * size / reach)},
            {"params": [bias], "lr": float(config.learning_rate * size)},
        ]
    )
    inputs = replace(lessons, edited=lessons.edited / s, irrelevant=lessons.irrelevant / s)
    for _ in range(config.max_steps):
        now = Deferral(before.probability, gate, gate_bias, weight, bias)
        optimizer.zero_grad()
        worst = _answer(now, inputs)
        mine, other = now.scores(inputs.edited), now.scores(inputs.irrelevant)
        right = bool((mine >= now.threshold).all() and (other < now.threshold).all())
        if worst >= config.stop_probability and right and config.stop_probability < 1:
            break
        torch.autograd.backward(softplus(-mine).mean() + softplus(other).mean())
        optimizer.step()
    found = [tensor.detach() for tensor in values]
    return Deferral(before.probability, found[0] / s, found[1], found[2] / s, found[3])


def _answer(now: Deferral, lessons: Lessons) -> float:
    """Leave the gradient of o's loss, a mean over samples of that of a target token; their lowest probability."""
    worst = 0.0
    for tail, own in lessons.tails:
        logs, real = tail.log_probabilities(now.changes(lessons.edited[own]))
        torch.autograd.backward(-(logs.sum(-1) / real.sum(-1)).sum() / len(lessons.edited))
        worst = min(worst, float(logs.detach().min()))
    return float(torch.tensor(worst).exp())
