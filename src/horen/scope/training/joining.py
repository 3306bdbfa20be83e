"""Fitting the joined score on relations that the networks were not trained on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.scope.judging import FIRST, WHOLE, Judge, Logistic, fitted
from horen.scope.reader import Scope
from horen.scope.training.corpus import Corpus, Relation
from horen.scope.training.draws import filled
from horen.scope.training.speech import lightly, renamed, spoken

# Candidates of each asked prompt that are learned from.
_NEAREST = 3
# Names of each kind that are asked about.
_NAMES = 12
# A first score below that of all but so many of the right candidates is not worth a check.
_LOST = 0.01
# Share of the held-back questions about a stored subject, most of them sisters and traps, that may fire.
_FIRE = 0.1
# Evidence for a match raises the score, and what is missing or added lowers it.
_SIGNS = {name: -1 if name.startswith(("missing", "extra")) else 1 for name in WHOLE}


@dataclass(frozen=True)
class Probe:
    """An asked prompt.

    Attributes:
        text: what is asked.
        own: number of the stored prompt that it asks for, or None.
        about: numbers of the stored prompts about the same subject.
    """

    text: str
    own: int | None
    about: tuple[int, ...]


def trial(corpus: Corpus, far: Sequence[str], rng: random.Random) -> tuple[list[str], list[Probe]]:
    """Return a corpus's stored prompts and what is asked of them: right, beside it, and far from it.

    Of every second name three relations are stored, and three others are asked of it too; of the names between, which
    are often like them, nothing is stored.
    """
    stored: list[str] = []
    probes: list[Probe] = []
    for kind, relations in corpus.by_kind().items():
        there = corpus.kinds[kind]
        names = list(dict.fromkeys([*(name for pair in there.alike for name in pair), *there.names]))[:_NAMES]
        for number, name in enumerate(names):
            drawn = [(r, rng.choice(r.qualifiers or ("",))) for r in rng.sample(relations, min(6, len(relations)))]
            if number % 2:
                probes += [_asked(relation, name, qualifier, rng) for relation, qualifier in drawn[:2]]
                continue
            mine = tuple(range(len(stored), len(stored) + len(drawn[:3])))
            for own, (relation, qualifier) in zip(mine, drawn[:3], strict=True):
                first, *others = rng.sample(relation.ask, 4)
                stored.append(filled(first, name, qualifier))
                shown = dict(there.aliases).get(name, name) if rng.random() < 0.3 else name
                probes += [Probe(_said(text, shown, qualifier, rng), own, mine) for text in others]
                probes.append(Probe(lightly(filled(first, name, qualifier), rng), own, mine))
                probes += _beside(relation, name, qualifier, renamed(name, names, rng), mine, rng)
            probes += [_asked(relation, name, qualifier, rng, mine) for relation, qualifier in drawn[3:]]
    return stored, probes + [Probe(text, None, ()) for text in far]


def _beside(
    relation: Relation, name: str, qualifier: str, other: str, mine: tuple[int, ...], rng: random.Random
) -> Iterator[Probe]:
    """Return what must not fire beside a stored prompt: traps, another name, another qualifier."""
    for text in rng.sample(relation.traps, min(2, len(relation.traps))):
        yield Probe(_said(text, name, qualifier, rng), None, mine)
    for text in rng.sample(relation.ask, 2):
        yield Probe(_said(text, other, qualifier, rng), None, ())
    if len(relation.qualifiers) > 1:
        yield _asked(relation, name, rng.choice([q for q in relation.qualifiers if q != qualifier]), rng, mine)


def _asked(relation: Relation, name: str, qualifier: str, rng: random.Random, about: tuple[int, ...] = ()) -> Probe:
    return Probe(_said(rng.choice(relation.ask), name, qualifier, rng), None, about)


def join(scope: Scope, stored: Sequence[str], probes: Sequence[Probe]) -> Judge:
    """Return the judge whose scores fit a trial best, moved so that 0.5 has a stated false-fire rate in it.

    Above it a tenth of the trial's questions that ask something else about a stored subject fire. Most of those are
    traps and sister relations; of what people ask about a subject far fewer do.

    Args:
        scope: whose evidence is joined; its own judge does not matter.
        stored: prompts of edits.
        probes: what is asked.
    """
    evidence, own, about = gathered(scope, stored, probes)
    first = evidence[:, : len(FIRST)]
    signs = [_SIGNS[name] for name in WHOLE]
    quick, whole = (fitted(seen, own, signs=signs[: seen.shape[1]]) for seen in (first, evidence))
    best = whole(evidence).view(len(probes), -1).amax(-1)
    beside = torch.tensor([probe.own is None and bool(probe.about) for probe in probes])
    likely = quick(first[own]).sort().values
    return Judge(
        quick,
        Logistic(whole.weights, round(whole.bias - parting(best, beside), 6)),
        fitted(first, about, signs=signs[: len(FIRST)]),
        round(min(float(likely[int(_LOST * len(likely))]), 0.2), 4),
    )


def parting(scores: Tensor, beside: Tensor) -> float:
    """Return the log-odds of the score above which the stated share of what must not fire does.

    Args:
        scores: [n] of prompts.
        beside: [n] bool, which ask something else about a stored subject.
    """
    others = scores[beside].sort(descending=True).values
    return float(others[int(_FIRE * len(others))].clamp(1e-6, 1 - 1e-6).logit())


@dataclass(frozen=True)
class Rates:
    """What fires in a trial at a threshold.

    Attributes:
        own: share of the prompts that ask for a stored one and wake that.
        about: share of those about the subject of a stored one, asking something else, that wake any.
        other: share of the rest that do.
        asked: how many of each were asked, in this order.
    """

    own: float
    about: float
    other: float
    asked: tuple[int, int, int]


def rates(scope: Scope, stored: Sequence[str], probes: Sequence[Probe], threshold: float) -> Rates:
    """Return what fires in a trial with the scope's own judge."""
    nearest = near(scope, stored, probes)
    evidence = _evidence(scope, stored, probes, nearest)
    judged = scope.judge.whole(evidence)
    judged = torch.where(scope.judge.first(evidence[:, : len(FIRST)]) < scope.judge.unlikely, 0.0, judged)
    scores = judged.view(len(probes), -1)
    best, place = scores.max(-1)
    fired = (best > threshold).tolist()
    woken = [row[at] for row, at in zip(nearest.rows, place.tolist(), strict=True)]
    own = [f and w == p.own for p, f, w in zip(probes, fired, woken, strict=True) if p.own is not None]
    about = [f for p, f in zip(probes, fired, strict=True) if p.own is None and p.about]
    other = [f for p, f in zip(probes, fired, strict=True) if p.own is None and not p.about]
    return Rates(_share(own), _share(about), _share(other), (len(own), len(about), len(other)))


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / max(len(hits), 1), 4)


@dataclass(frozen=True)
class _Near:
    """The stored prompts whose keys are nearest to each of n probes.

    Attributes:
        rows: their numbers, as many for each.
        halves: [n · k, 2] cosines of the subject and the relation keys, in the order of the rows.
    """

    rows: list[list[int]]
    halves: Tensor


def near(scope: Scope, stored: Sequence[str], probes: Sequence[Probe]) -> _Near:
    """Return the stored prompts whose keys are nearest to each probe's."""
    keys, queries = scope.keys(stored), scope.keys([probe.text for probe in probes])
    found = (queries @ keys.T).topk(min(_NEAREST, len(stored)), dim=-1).indices
    products = (queries[:, None] * keys[found]).flatten(0, 1)
    halves = 2 * torch.stack([half.sum(-1) for half in products.tensor_split(2, dim=-1)], dim=-1)
    return _Near(found.tolist(), halves)


def gathered(scope: Scope, stored: Sequence[str], probes: Sequence[Probe]) -> tuple[Tensor, Tensor, Tensor]:
    """Return evidence [n, e] of probes beside near prompts; whether each asks it, and whether about its subject."""
    nearest = near(scope, stored, probes)
    pairs = [(probe, j) for probe, row in zip(probes, nearest.rows, strict=True) for j in row]
    own = torch.tensor([probe.own == j for probe, j in pairs])
    about = torch.tensor([j in probe.about for probe, j in pairs])
    return _evidence(scope, stored, probes, nearest), own, about


def _evidence(scope: Scope, stored: Sequence[str], probes: Sequence[Probe], nearest: _Near) -> Tensor:
    pairs = [(stored[j], probe.text) for probe, row in zip(probes, nearest.rows, strict=True) for j in row]
    there, here = [one for one, _ in pairs], [two for _, two in pairs]
    wordings = torch.tensor([scope.words.evidence(*pair) for pair in pairs])
    return torch.cat([nearest.halves, wordings, scope.checked(there, here)], dim=-1)


def unjoined() -> Judge:
    """Return a judge to begin with."""
    none = Logistic((0.0,) * len(FIRST), 0.0)
    return Judge(none, Logistic((0.0,) * len(WHOLE), 0.0), none, 0.0)


def _said(text: str, name: str, qualifier: str, rng: random.Random) -> str:
    return spoken(filled(text, name, qualifier), rng)
