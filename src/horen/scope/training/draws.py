"""Drawing what to learn from out of a corpus: texts with their subject and relation, and pairs of texts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from horen.scope.training.corpus import Corpus, Kind, Relation, Subject, always
from horen.scope.training.speech import lightly, renamed, spoken

T = TypeVar("T")

#: What an asked prompt is to a stored one.
OWN, ABOUT, OTHER = 0, 1, 2

# A relation of many subjects is drawn so many times as often as one of a single subject.
_MANY = 3
# Share of the pairs that are of running text, where there is any.
_RUNNING = 0.25
# Share of the prompts asking for a fact that have the stored one's words, and of all that are changed a little.
_AGAIN, _LIGHTLY = 0.3, 0.5
# Names of any subjects that lend a word to one whose kind has no other.
_DONORS = 8


@dataclass(frozen=True)
class Item:
    """A text, what it is about and what it asks.

    Attributes:
        text: the prompt.
        subject: texts with one subject have equal ones.
        relation: texts that ask alike have equal ones; only within a universe.
        universe: whose relations can be told apart; "" for those of kinds of many subjects.
        beside: of a trap the relation that it does not ask for, which is all that is known of it; "" of other texts.
    """

    text: str
    subject: str
    relation: str
    universe: str = ""
    beside: str = ""


class Draws:
    """Random draws from a corpus.

    Args:
        corpus: what to draw from.
        seed: of every draw; see :meth:`at`.
        strength: how much texts are changed to what people type; see :func:`horen.scope.training.speech.spoken`.
    """

    def __init__(self, corpus: Corpus, seed: int, *, strength: float = 1.0) -> None:
        self._seed, self._strength = seed, strength
        self._rng = random.Random(seed)  # noqa: S311 - a draw, not a secret
        self._corpus = corpus
        self._by_kind = corpus.by_kind()
        self._kinds = list(self._by_kind)
        self._weights = [
            len(self._by_kind[kind]) * (1 if corpus.kinds[kind].universe else _MANY) for kind in self._kinds
        ]
        self._donors = [name for kind in corpus.kinds.values() for name in kind.names]
        several = [subject for subject in corpus.subjects if len(subject.facts) > 1]
        self._subjects: list[Subject] = list(corpus.subjects)
        self._several = several

    def at(self, step: int) -> Draws:
        """Return the same, with what is drawn next depending on the seed and a step alone."""
        self._rng.seed(f"{self._seed}/{step}")
        return self

    def shuffled(self, things: list[T]) -> list[T]:
        """Return the things in an order of chance."""
        return self._rng.sample(things, len(things))

    @property
    def has_subjects(self) -> bool:
        """Whether there is running text."""
        return bool(self._several)

    def say(self, text: str) -> str:
        """Return the text as somebody might type it."""
        return spoken(text, self._rng, strength=self._strength)

    def block(self, subjects: int, relations: int) -> list[Item]:
        """Draw texts about a few like subjects of one kind that ask a few like things, two wordings of each."""
        rng, (kind, found) = self._rng, self._kind()
        names = self._like_names(kind, subjects)
        near = self._near(found, relations)
        alias = dict(kind.aliases) | {two: one for one, two in kind.aliases}
        items = []
        for name in names:
            for relation, qualifier in near:
                for text in rng.sample(relation.ask, 2 if rng.random() < 0.5 else 1):
                    shown = alias[name] if name in alias and rng.random() < 0.4 else name
                    items.append(self._item(text, shown, name, relation, qualifier, relation.name))
            if rng.random() < 0.25:
                place = rng.randrange(len(always()["about"]))
                text = filled(always()["about"][place], name, "")
                items.append(Item(self.say(text), f"{near[0][0].kind}/{name}", f"always#{place}", kind.universe))
            relation, qualifier = rng.choice(near)
            if relation.traps:
                trap = rng.randrange(len(relation.traps))
                item = self._item(relation.traps[trap], name, name, relation, qualifier, f"{relation.name}#{trap}")
                items.append(replace(item, beside=f"{relation.kind}/{relation.name}/{qualifier}"))
        return items

    def running(self, count: int) -> list[Item]:
        """Draw texts about a few subjects of running text."""
        items: list[Item] = []
        for _ in range(count):
            number = self._rng.randrange(len(self._subjects))
            subject = self._subjects[number]
            for relation in self._rng.sample(sorted(subject.facts), min(3, len(subject.facts))):
                texts = [*subject.facts[relation], *subject.aliases.get(relation, ())]
                some = self._rng.sample(texts, min(2, len(texts)))
                items += [Item(self.say(text), f"running/{number}", relation, subject.universe) for text in some]
        return items

    def pair(self) -> tuple[str, str, int]:
        """Draw a stored prompt, an asked one, and what that is to it."""
        if self.has_subjects and self._rng.random() < _RUNNING:
            return self._running_pair()
        rng, (kind, found) = self._rng, self._kind()
        name = self._name(kind)
        relation = rng.choice(found)
        qualifier = rng.choice(relation.qualifiers) if relation.qualifiers else ""
        one, two = rng.sample(relation.ask, 2)
        stored = filled(one, name, qualifier)
        chance = rng.random()
        if chance < 0.02:
            return stored, self.say(rng.choice(always()["follow"])), OTHER
        if chance < 0.05:
            return stored, self.say(filled(rng.choice(always()["about"]), name, "")), ABOUT
        if chance < 0.42:
            # Much the same words may well ask the same: not every small change is a trap.
            again = one if rng.random() < _AGAIN else two
            return stored, self.say(self._light(filled(again, self._same_name(kind, name), qualifier))), OWN
        if chance < (0.55 if relation.qualifiers else 0.70) and relation.traps:
            return stored, self.say(self._light(filled(rng.choice(relation.traps), name, qualifier))), ABOUT
        if chance < 0.78:
            if relation.qualifiers:
                other = rng.choice([q for q in relation.qualifiers if q != qualifier])
                return stored, self.say(filled(rng.choice(relation.ask), name, other)), ABOUT
            near = [r for r, _ in self._near(found, 6) if r is not relation]
            if near:
                return stored, self._asks(rng.choice(near), name), ABOUT
        if chance < 0.82 and relation.traps and rng.random() < 0.5:
            # Two traps of one relation, or a trap that is stored and its relation asked.
            return filled(rng.choice(relation.traps), name, qualifier), self.say(stored), ABOUT
        another = self._another_name(kind, name)
        if chance < 0.95:
            return stored, self.say(filled(rng.choice(relation.ask), another, qualifier)), OTHER
        return stored, self._asks(rng.choice(found), another), OTHER

    def _running_pair(self) -> tuple[str, str, int]:
        rng = self._rng
        subject = rng.choice(self._several)
        relation = rng.choice(sorted(subject.facts))
        texts = [*subject.facts[relation], *subject.aliases.get(relation, ())]
        inverse = relation.startswith("R") and subject.universe == "simple"
        chance = rng.random()
        if chance < 0.4 and len(texts) > 1 and not inverse:
            stored, asked = rng.sample(texts, 2)
            return stored, self.say(asked), OWN
        stored = rng.choice(texts)
        if chance < 0.8 or not subject.name:
            other = rng.choice([name for name in sorted(subject.facts) if name != relation])
            return stored, self.say(rng.choice(subject.facts[other])), ABOUT
        asked = rng.choice(texts)
        donors = [s.name for s in rng.sample(self._several, 8) if s.name and s.name != subject.name]
        if subject.name not in asked:
            return stored, self.say(rng.choice(next(iter(rng.choice(self._several).facts.values())))), OTHER
        name = renamed(subject.name, donors, rng) if rng.random() < 0.6 or not donors else rng.choice(donors)
        return stored, self.say(asked.replace(subject.name, name)), OTHER

    def _light(self, text: str) -> str:
        return lightly(text, self._rng) if self._rng.random() < _LIGHTLY else text

    def _kind(self) -> tuple[Kind, list[Relation]]:
        name = self._rng.choices(self._kinds, self._weights)[0]
        return self._corpus.kinds[name], self._by_kind[name]

    def _near(self, found: list[Relation], count: int) -> list[tuple[Relation, str]]:
        """Relations that stand beside each other, as sisters do, or some drawn by chance; with qualifiers."""
        rng, count = self._rng, min(count, len(found))
        start = rng.randrange(len(found) - count + 1)
        chosen = found[start : start + count] if rng.random() < 0.6 else rng.sample(found, count)
        drawn: list[tuple[Relation, str]] = []
        for relation in chosen:
            qualifiers: Sequence[str] = relation.qualifiers or ("",)
            drawn.extend((relation, q) for q in rng.sample(qualifiers, min(2, len(qualifiers))))
        return drawn

    def _like_names(self, kind: Kind, count: int) -> list[str]:
        rng = self._rng
        names: list[str] = []
        if kind.alike:
            names.extend(rng.choice(kind.alike))
        names.append(rng.choice(kind.names))
        names.append(self._renamed(kind, names[-1]))
        if kind.aliases:
            names.append(rng.choice(kind.aliases)[0])
        if len(kind.names) == 1:
            names.append(rng.choice(self._donors))
        while len(set(names)) < min(count, len(kind.names)):
            names.append(rng.choice(kind.names))
        return list(dict.fromkeys(names))[:count]

    def _renamed(self, kind: Kind, name: str) -> str:
        """Another name that looks like this one, with a word of a like subject's or, where there is none, of any."""
        donors = kind.names if len(kind.names) > 1 else self._rng.sample(self._donors, min(_DONORS, len(self._donors)))
        return renamed(name, list(donors), self._rng)

    def _item(self, text: str, shown: str, name: str, relation: Relation, qualifier: str, asks: str) -> Item:
        said = self.say(filled(text, shown, qualifier))
        universe = self._corpus.kinds[relation.kind].universe
        return Item(said, f"{relation.kind}/{name}", f"{relation.kind}/{asks}/{qualifier}", universe)

    def _asks(self, relation: Relation, name: str) -> str:
        qualifier = self._rng.choice(relation.qualifiers) if relation.qualifiers else ""
        return self.say(filled(self._rng.choice(relation.ask), name, qualifier))

    def _name(self, kind: Kind) -> str:
        """Return a name; often one of those that look alike or have an alias."""
        chance = self._rng.random()
        if chance < 0.3 and kind.alike:
            return self._rng.choice(self._rng.choice(kind.alike))
        if chance < 0.45 and kind.aliases:
            return self._rng.choice(self._rng.choice(kind.aliases))
        return self._rng.choice(kind.names)

    def _same_name(self, kind: Kind, name: str) -> str:
        """Return a name of the same subject: an alias where it has one, or itself."""
        aliases = [two if one == name else one for one, two in kind.aliases if name in (one, two)]
        return self._rng.choice(aliases) if aliases and self._rng.random() < 0.7 else name

    def _another_name(self, kind: Kind, name: str) -> str:
        """Return the name of another subject, most often one that looks alike."""
        rng = self._rng
        alike = [two if one == name else one for one, two in kind.alike if name in (one, two)]
        if alike and rng.random() < 0.6:
            return rng.choice(alike)
        if rng.random() < 0.6:
            return self._renamed(kind, name)
        # Of a single subject's kind nobody knows a like one: any other will do.
        others = kind.names if len(kind.names) > 1 else rng.sample(self._donors, min(_DONORS, len(self._donors)))
        return rng.choice([other for other in others if other != name] or [self._renamed(kind, name)])


def filled(text: str, name: str, qualifier: str) -> str:
    """Return a template with its subject's name and its qualifier."""
    return text.replace("{x}", name).replace("{q}", qualifier)
