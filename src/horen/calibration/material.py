"""What a calibration learns from: rephrases to fit on, a trial to choose by and another trial to certify with.

It is text alone. The three parts share no relation, and what is certified on shares no subject with the other two.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from horen.data import PromptBank, Relation

NEIGHBOUR, SAME_SUBJECT, UNRELATED = "neighbour", "same_subject", "unrelated"
#: Kinds of prompts that must not fire: what has nothing to do with any edit, the edited relation of another subject,
#: and another relation of an edited subject.
KINDS = (UNRELATED, NEIGHBOUR, SAME_SUBJECT)

_FIT, _CHOOSE = 0.4, 0.2  # shares of the relations or facts; the rest is certified on
_FIT_GROUPS = 600
_BACKGROUND = 1200
_REPHRASES = 2
#: Of what is drawn, so that it is always drawn alike.
SEED = 20

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Fact:
    """One edit of a trial: its prompt, and other wordings that must wake it."""

    prompt: str
    rephrases: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """Edits with what must wake them and what must not.

    Attributes:
        facts: the edits.
        negatives: kind and text of what must wake none of them.
    """

    facts: tuple[Fact, ...]
    negatives: tuple[tuple[str, str], ...]

    @property
    def pairs(self) -> int:
        """How many (prompt, rephrase) pairs there are."""
        return sum(len(fact.rephrases) for fact in self.facts)

    def texts(self) -> list[str]:
        """Return everything that is read, prompts first."""
        facts, negatives = self.facts, self.negatives
        return [
            *(fact.prompt for fact in facts),
            *(text for fact in facts for text in fact.rephrases),
            *(text for _, text in negatives),
        ]


@dataclass(frozen=True)
class Material:
    """Texts of one calibration.

    Attributes:
        groups: each several wordings of one prompt.
        background: prompts that have nothing to do with each other.
        choose: the trial by which settings are compared.
        certify: the trial that thresholds are taken from.
    """

    groups: tuple[tuple[str, ...], ...]
    background: tuple[str, ...]
    choose: Trial
    certify: Trial

    @property
    def pairs(self) -> int:
        """How many pairs of wordings of one fact there are in all parts."""
        fitted = sum(len(group) * (len(group) - 1) // 2 for group in self.groups)
        return fitted + self.choose.pairs + self.certify.pairs

    def texts(self) -> list[str]:
        """Return every text once, in a fixed order."""
        grouped = [text for group in self.groups for text in group]
        return list(dict.fromkeys([*grouped, *self.background, *self.choose.texts(), *self.certify.texts()]))

    @classmethod
    def of_bank(cls, bank: PromptBank) -> Material:
        """Return the material that a model is calibrated with where nobody gives a file; always the same."""
        rng = random.Random(SEED)  # noqa: S311 - an order, not a secret
        relations = rng.sample(bank.relations, len(bank.relations))
        names = {kind: rng.sample(list(own), len(own)) for kind, own in bank.entities.items()}
        halves = [{kind: own[start::2] for kind, own in names.items()} for start in (0, 1)]
        to_fit, to_choose, to_certify = split(relations)
        groups = [relation.render(subject) for relation in to_fit for subject in halves[0][relation.entities]]
        plain = rng.sample(bank.plain, len(bank.plain))
        chosen, certified = _trial(to_choose, halves[0], rng), _trial(to_certify, halves[1], rng)
        return cls(
            groups=tuple(rng.sample(groups, min(_FIT_GROUPS, len(groups)))),
            background=(*rng.sample([rng.choice(group) for group in groups], _BACKGROUND), *plain[: len(plain) // 3]),
            choose=_with(chosen, plain[len(plain) // 3 : 2 * len(plain) // 3]),
            certify=_with(certified, plain[2 * len(plain) // 3 :]),
        )


def split(shuffled: Sequence[_Item]) -> tuple[Sequence[_Item], Sequence[_Item], Sequence[_Item]]:
    """Return the parts of a shuffled list that are fitted on, chosen by and certified on."""
    first, second = round(_FIT * len(shuffled)), round((_FIT + _CHOOSE) * len(shuffled))
    return shuffled[:first], shuffled[first:second], shuffled[second:]


def _with(trial: Trial, plain: Sequence[str]) -> Trial:
    return Trial(trial.facts, (*trial.negatives, *((UNRELATED, text) for text in plain)))


def _trial(relations: Sequence[Relation], names: dict[str, list[str]], rng: random.Random) -> Trial:
    """Of every type of subject half the relations are edited, for two names of three and as many made of them.

    The four blocks of (relation, name) are then the edits and the three kinds of negatives. Names that share words with
    edited ones are further neighbours; nothing unrelated has such a name.
    """
    by_kind: dict[str, list[Relation]] = {}
    for relation in relations:
        by_kind.setdefault(relation.entities, []).append(relation)
    facts: list[Fact] = []
    negatives: list[tuple[str, str]] = []
    for kind, own in by_kind.items():
        edited, others = own[: (len(own) + 1) // 2], own[(len(own) + 1) // 2 :]
        strangers = names[kind][::3]
        base = [name for name in names[kind] if name not in strangers]
        subjects = list(dict.fromkeys([*base, *_mixed(base, 1)]))
        namesakes = [name for name in _mixed(base, 2) if name not in subjects]
        for relation in edited:
            for subject in subjects:
                prompt, *rephrases = rng.sample(relation.render(subject), 1 + _REPHRASES)
                facts.append(Fact(prompt, tuple(rephrases)))
            negatives += [(NEIGHBOUR, text) for name in strangers for text in rng.sample(relation.render(name), 2)]
            negatives += [(NEIGHBOUR, rng.choice(relation.render(name))) for name in namesakes]
        for relation in others:
            negatives += [(SAME_SUBJECT, rng.choice(relation.render(name))) for name in subjects]
            negatives += [(UNRELATED, text) for name in strangers for text in relation.render(name)]
    return Trial(tuple(facts), tuple(negatives))


def _mixed(names: Sequence[str], shift: int) -> list[str]:
    """Names that begin as one of several words does and end as a later one of them does, as namesakes do."""
    several = [name.split() for name in names if len(name.split()) > 1]
    if len(several) <= shift:
        return []
    later = several[shift:] + several[:shift]
    return [" ".join((*one[:-1], other[-1])) for one, other in zip(several, later, strict=True)]
