"""The sentences that ship with the package: the facts of the demo, the bank of prompts, IKE's demonstrations."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from types import MappingProxyType
from typing import Any

from horen.errors import DataError

__all__ = ["DemoFact", "PromptBank", "Relation", "demo_facts", "load_bank"]


@dataclass(frozen=True)
class DemoFact:
    """One fact of the demo: what to ask, what to answer, and how to probe the edit."""

    prompt: str
    target: str
    rephrases: tuple[str, ...]
    near_misses: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """One relation of the bank: templates that are rephrases, with one ``{x}`` each, and the type that fills it."""

    name: str
    templates: tuple[str, ...]
    entities: str

    def render(self, entity: str) -> tuple[str, ...]:
        """Return every template with ``entity`` in the place of ``{x}``."""
        return tuple(template.replace("{x}", entity) for template in self.templates)


@dataclass(frozen=True)
class PromptBank:
    """Generic prompts that need no network, for measuring the key space of any model."""

    relations: tuple[Relation, ...]
    entities: Mapping[str, tuple[str, ...]]
    plain: tuple[str, ...]
    paragraphs: tuple[str, ...]

    def paraphrases(self, n: int, *, seed: int = 0) -> list[tuple[str, ...]]:
        """Draw ``n`` groups of prompts that ask one thing in different words.

        Each relation gives one group before any gives a second, and no relation meets the same subject
        twice. A longer draw with the same seed begins with the shorter one.

        Returns:
            One tuple per group: all templates of one relation, filled with one subject.

        Raises:
            DataError: ``n`` is negative or larger than the number of (relation, subject) pairs.
        """
        self._check(n, self._pair_count(), "groups of rephrases")
        rng = random.Random(seed)  # noqa: S311
        return [relation.render(entity) for relation, entity in islice(self._pairs(rng), n)]

    def unrelated(self, n: int, *, seed: int = 0) -> list[str]:
        """Draw ``n`` distinct prompts that have nothing to do with each other.

        Plain prompts and filled templates take turns until the plain ones are used up; no (relation,
        subject) pair is used twice. A longer draw with the same seed begins with the shorter one.

        Returns:
            The prompts, in the order of the draw.

        Raises:
            DataError: ``n`` is negative or larger than the number of prompts that can be drawn.
        """
        self._check(n, len(self.plain) + self._pair_count(), "unrelated prompts")
        rng = random.Random(seed)  # noqa: S311
        return list(islice(self._mixed(rng), n))

    def sentences(self) -> list[str]:
        """Return what the bank says in words of its own: plain prompts, paragraphs and templates without a name."""
        templates = [text.replace("{x}", "") for relation in self.relations for text in relation.templates]
        return [*self.plain, *self.paragraphs, *templates]

    def _mixed(self, rng: random.Random) -> Iterator[str]:
        plain = iter(rng.sample(self.plain, len(self.plain)))
        for relation, entity in self._pairs(rng):
            yield from islice(plain, 1)
            yield rng.choice(relation.templates).replace("{x}", entity)
        yield from plain

    def _pairs(self, rng: random.Random) -> Iterator[tuple[Relation, str]]:
        left: list[tuple[Relation, list[str]]] = []
        for relation in self.relations:
            names = self.entities[relation.entities]
            left.append((relation, rng.sample(names, len(names))))
        while left:
            rng.shuffle(left)
            for relation, waiting in left:
                yield relation, waiting.pop()
            left = [(relation, waiting) for relation, waiting in left if waiting]

    def _pair_count(self) -> int:
        return sum(len(self.entities[relation.entities]) for relation in self.relations)

    @staticmethod
    def _check(n: int, most: int, what: str) -> None:
        if not 0 <= n <= most:
            raise DataError(f"cannot draw {n} {what}: the bank has {most}; ask for 0 to {most}")


def demo_facts() -> list[DemoFact]:
    """Return the facts that ``horen demo`` teaches, in the order of the file."""
    return [
        DemoFact(
            prompt=record["prompt"],
            target=record["target"],
            rephrases=tuple(record["rephrases"]),
            near_misses=tuple(record["near_misses"]),
        )
        for record in _read("demo.json")
    ]


@cache
def load_bank() -> PromptBank:
    """Return the bank of generic prompts; it is read once and cannot be changed."""
    bank = _read("bank.json")
    return PromptBank(
        relations=tuple(
            Relation(name=record["name"], templates=tuple(record["templates"]), entities=record["entities"])
            for record in bank["relations"]
        ),
        entities=MappingProxyType({kind: tuple(names) for kind, names in bank["entities"].items()}),
        plain=tuple(bank["plain"]),
        paragraphs=tuple(bank["paragraphs"]),
    )


def _read(name: str) -> Any:
    return json.loads(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"))
