"""Training the two networks of a scope on draws from a corpus; an interrupted training goes on from its last mark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from horen.editfiles.atomic import write_whole
from horen.scope.networks import Heads, PairCheck, encoded
from horen.scope.training.corpus import Corpus
from horen.scope.training.draws import Draws, Item

Progress = Callable[[int, int, float], None]

# Batches that are drawn at once to be sorted by length, and parts that one batch is read in.
_TOGETHER, _PARTS = 16, 4
# Steps between marks from which an interrupted training goes on.
_MARK = 100
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Attributes:
        steps: optimiser steps.
        batch: blocks of like texts, or pairs, in a step.
        rate: greatest learning rate of the encoder's layers; what is new learns ten times as fast.
        frozen: layers from the bottom that stay as they are, beside the embeddings.
        seed: of every draw.
        rough: compute in bfloat16.
    """

    steps: int
    batch: int
    rate: float = 3e-4
    frozen: int = 2
    seed: int = 0
    rough: bool = True


def train_heads(
    heads: Heads, tokenizer: Any, corpus: Corpus, settings: Settings, mark: Path, progress: Progress
) -> None:
    """Train both heads by supervised contrast (Khosla et al. 2020): texts of one subject, of one relation, of one fact.

    Args:
        heads: trained in place.
        tokenizer: of its encoder.
        corpus: what is learned from.
        settings: how.
        mark: a file that the training goes on from, where it is there, and that is written now and then.
        progress: told (step, steps, loss of late).
    """
    draws = Draws(corpus, settings.seed)
    scales = nn.Parameter(torch.tensor([20.0, 20.0, 20.0]).log())

    def loss(step: int) -> Tensor:
        draw = draws.at(step)
        items = [item for _ in range(settings.batch) for item in draw.block(5, 3)]
        if draw.has_subjects:
            items += draw.running(2 * settings.batch)
        subjects, relations = _both(heads, tokenizer, [item.text for item in items])
        like_s, like_r, known = _likeness(items)
        scale = scales.exp()
        first, second = subjects @ subjects.T, relations @ relations.T
        return (
            contrast(scale[0] * first, like_s, torch.ones_like(known))
            + contrast(scale[1] * second, like_r & known, known)
            + contrast(scale[2] * (first + second) / 2, like_s & like_r, known | ~like_s)
        )

    _optimise(heads, [scales], settings, loss, mark, progress)


def train_pair_check(
    check: PairCheck, tokenizer: Any, corpus: Corpus, settings: Settings, mark: Path, progress: Progress
) -> None:
    """Train the pair check to tell own, about and other; see :func:`train_heads` for the arguments."""
    draws = Draws(corpus, settings.seed)
    drawn: dict[int, list[list[tuple[str, str, int]]]] = {}

    def loss(step: int) -> Tensor:
        group, place = divmod(step, _TOGETHER)
        if group not in drawn:  # pairs of like length together, in an order of their own
            draw = draws.at(group)
            pairs = sorted((draw.pair() for _ in range(_TOGETHER * settings.batch)), key=lambda p: len(p[0] + p[1]))
            batches = [pairs[start : start + settings.batch] for start in range(0, len(pairs), settings.batch)]
            drawn.clear()
            drawn[group] = draw.shuffled(batches)
        batch = drawn[group][place]
        inputs = encoded(tokenizer, [stored for stored, _, _ in batch], [asked for _, asked, _ in batch])
        labels = torch.tensor([label for _, _, label in batch])
        return nn.functional.cross_entropy(check(**inputs), labels, label_smoothing=0.02)

    _optimise(check, [], settings, loss, mark, progress)


def contrast(logits: Tensor, like: Tensor, known: Tensor) -> Tensor:
    """Return, as mean over texts, −log of a like text's share of the softmax, averaged over its like texts.

    Args:
        logits: [B, B] scaled similarities.
        like: [B, B] bool, which texts should be near.
        known: [B, B] bool, which pairs count at all.
    """
    own = torch.eye(len(logits), dtype=torch.bool)
    counted, like = (known | like) & ~own, like & ~own
    some = like.any(-1)
    if not bool(some.any()):
        return logits.sum() * 0
    # Each like text stands against the unlike ones alone: like texts do not push each other away.
    unlike = logits.masked_fill(~(counted & ~like), -torch.inf).logsumexp(-1, keepdim=True)
    terms = nn.functional.softplus(unlike - logits)
    return (terms.masked_fill(~like, 0).sum(-1)[some] / like.sum(-1)[some]).mean()


def _both(heads: Heads, tokenizer: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Subject and relation keys of texts, read with others of like length, so that little is padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    size = -(-len(order) // _PARTS)
    parts = [
        heads(**encoded(tokenizer, [texts[i] for i in order[at : at + size]])) for at in range(0, len(order), size)
    ]
    back = torch.tensor(order).argsort()
    return torch.cat([one for one, _ in parts])[back], torch.cat([two for _, two in parts])[back]


def _likeness(items: list[Item]) -> tuple[Tensor, Tensor, Tensor]:
    """Whether two texts have one subject and one relation, and whether their relations can be compared; [B, B] each."""
    numbers: dict[str, int] = {}

    def codes(values: Iterable[str]) -> Tensor:
        return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values])

    subjects, universes = codes(i.subject for i in items), codes(i.universe for i in items)
    relations = codes(f"{i.universe}|{i.relation}" for i in items)
    beside = codes(f"{i.universe}|{i.beside or i.relation}" for i in items)
    like_s, like_r = subjects[:, None] == subjects, relations[:, None] == relations
    # Relations of different universes may be the same; of one subject they are told apart everywhere.
    known = (universes[:, None] == universes) | like_s
    # A trap is not what it stands beside, but it may well ask what another relation does.
    trap = relations != beside
    apart = ~trap[:, None] | (beside[:, None] == relations) | like_r
    return like_s, like_r, known & apart & apart.T


def _optimise(
    network: Any,
    others: list[nn.Parameter],
    settings: Settings,
    loss: Callable[[int], Tensor],
    mark: Path,
    progress: Progress,
) -> None:
    encoder, steps = network.encoder, settings.steps
    for part in (encoder.embeddings, *encoder.encoder.layer[: settings.frozen]):
        part.requires_grad_(False)
    if encoder.pooler is not None:
        encoder.pooler.requires_grad_(False)  # nothing reads what it gives
    old = [p for p in encoder.parameters() if p.requires_grad]
    known = {id(p) for p in encoder.parameters()}
    new = [p for p in network.parameters() if id(p) not in known] + others
    optimizer = torch.optim.AdamW(
        [
            {"params": old, "lr": settings.rate, "weight_decay": 0.01},
            {"params": new, "lr": 10 * settings.rate, "weight_decay": 0.0},
        ]
    )
    warm = max(1, steps // 20)

    def pace(step: int) -> float:
        """Share of the greatest rate: a rise, then half a cosine."""
        return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))

    begin = _resumed(mark, optimizer, old + new)
    # Hardly a draw comes twice, so dropout, which slows learning, has nothing to guard against.
    network.eval()
    # The fused attention's gradient of short texts takes six times as long in bfloat16 on a CPU (torch 2.13).
    encoder.set_attn_implementation("eager")
    late = math.nan
    for step in range(begin, steps):
        for group, rate in zip(optimizer.param_groups, (settings.rate, 10 * settings.rate), strict=True):
            group["lr"] = rate * pace(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.rough):
            value = loss(step)
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(old + new, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen = float(value.detach())
        late = seen if math.isnan(late) else 0.98 * late + 0.02 * seen
        if (step + 1) % _MARK == 0 or step + 1 == steps:
            _mark(mark, step + 1, optimizer, old + new)
        progress(step + 1, steps, late)


def _mark(place: Path, step: int, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Write weights and moments, as a whole or not at all."""
    tensors = {"done": torch.tensor(step)}
    for number, parameter in enumerate(parameters):
        tensors[f"{number}.weight"] = parameter.detach()
        tensors |= {f"{number}.{name}": optimizer.state[parameter][name] for name in _MOMENTS}
    write_whole(place, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _resumed(place: Path, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> int:
    """Take up what was marked; how many steps are done."""
    if not place.exists():
        return 0
    tensors = load(place.read_bytes())
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"{number}.weight"])
            optimizer.state[parameter] = {name: tensors[f"{number}.{name}"] for name in _MOMENTS}
    return int(tensors["done"])
