"""EntityQuestions: facts of 24 relations. Rephrases come from templates, negatives from the other facts.

The published files hold only questions and answers; relation and subject are then read off the question.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from horen.bench.datasets.fields import made, record
from horen.bench.records import NEAR, SAME_SUBJECT, Negative, Record, Rejected
from horen.editfiles.objects import Fields
from horen.editfiles.textfiles import BadRecordError, Item
from horen.edits import same_text

_SLOT = "{x}"


@dataclass(frozen=True)
class _Template:
    asked: re.Pattern[str]
    reworded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fact:
    """A question with its answer; ``key`` and ``about`` are what prompts and subjects are compared by."""

    number: int
    prompt: str
    target: str
    relation: str
    subject: str | None
    key: str
    about: str


def read(
    items: Iterable[Item], companions: Sequence[tuple[str, Iterable[Item]]], limit: int | None
) -> tuple[list[Record], list[Rejected]]:
    """Make records of the first ``limit`` facts; negatives are taken from all the facts of all files.

    Returns:
        The records, and what cannot be used of the files.
    """
    rejected: list[Rejected] = []
    facts = list(made(items, _fact, rejected))
    edits = facts[:limit]
    spare = facts[len(edits) :]
    for name, others in companions:
        spare += made(others, _fact, rejected, f"{name}: ")
    negatives = _Negatives(edits, spare)
    return [_record(fact, negatives.of(position)) for position, fact in enumerate(edits)], rejected


def _fact(number: int, fields: Fields) -> _Fact:
    prompt = fields.text("src" if "src" in fields or "question" not in fields else "question")
    answers = fields.texts("answers")
    if not answers:
        raise BadRecordError("it has no answers")
    relation, subject = fields.optional("relation"), fields.optional("subject")
    if relation is None or subject is None:
        found_relation, found_subject = _recognise(prompt)
        relation, subject = relation or found_relation, subject or found_subject
    about = "" if subject is None else same_text(subject)
    return _Fact(number, prompt, answers[0], relation or "", subject, same_text(prompt), about)


def _record(fact: _Fact, negatives: list[Negative]) -> Record:
    template = _templates().get(fact.relation)
    rephrases: list[str] = []
    if template is not None and fact.subject is not None:
        rephrases = [text.replace(_SLOT, fact.subject) for text in template.reworded]
    return record(fact.number, fact.prompt, fact.target, rephrases=rephrases, negatives=negatives, subject=fact.subject)


class _Negatives:
    """Finds for an edit another fact of its relation, and another one about its subject.

    A fact that is edited too is a poor negative, since its answer may change with its own edit. So facts that are
    not edited are taken first, each in its turn, and an edit only where there are none.
    """

    def __init__(self, edits: Sequence[_Fact], spare: Sequence[_Fact]) -> None:
        edited = {fact.key for fact in edits}
        unedited = [fact for fact in spare if fact.about and fact.key not in edited]
        self._edits = edits
        self._following = _following(edits)
        near: defaultdict[str, dict[str, _Fact]] = defaultdict(dict)
        for fact in unedited:
            near[fact.relation].setdefault(fact.about, fact)
        self._near = {relation: list(facts.values()) for relation, facts in near.items()}
        self._about: defaultdict[str, dict[str, _Fact]] = defaultdict(dict)
        for fact in (*unedited, *(fact for fact in edits if fact.about)):
            self._about[fact.about].setdefault(fact.relation, fact)

    def of(self, position: int) -> list[Negative]:
        """Return what there is for the edit at a position: at most one of each kind."""
        fact = self._edits[position]
        if not fact.about or not fact.relation:
            return []
        found = [(self._of_relation(position, fact), NEAR), (self._of_subject(fact), SAME_SUBJECT)]
        return [Negative(other.prompt, kind) for other, kind in found if other is not None]

    def _of_relation(self, position: int, fact: _Fact) -> _Fact | None:
        others = self._near.get(fact.relation, ())
        # No two of them have one subject, so that only one can be the edit's.
        for turn in range(position, position + min(len(others), 2)):
            if (other := others[turn % len(others)]).about != fact.about:
                return other
        return self._following[position]

    def _of_subject(self, fact: _Fact) -> _Fact | None:
        for relation, other in self._about[fact.about].items():
            # Two relations of the data set are asked about in the same words.
            if relation not in {"", fact.relation} and other.key != fact.key:
                return other
        return None


def _following(facts: Sequence[_Fact]) -> list[_Fact | None]:
    """For each fact the next one of its relation with another subject; after the last comes the first."""
    found: list[_Fact | None] = [None] * len(facts)
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, fact in enumerate(facts):
        if fact.about:
            positions[fact.relation].append(position)
    for group in positions.values():
        after = group[0]
        # Twice around, so that the last ones learn what comes after the first ones.
        for position in (*reversed(group), *reversed(group)):
            same = facts[after].about == facts[position].about
            found[position] = found[after] if same else facts[after]
            after = position
    return found


def _recognise(prompt: str) -> tuple[str | None, str | None]:
    for relation, template in _templates().items():
        if match := template.asked.fullmatch(prompt):
            return relation, match[1]
    return None, None


@cache
def _templates() -> dict[str, _Template]:
    """Templates by relation, the most specific first."""
    text = resources.files("horen.data").joinpath("entity_templates.json").read_text(encoding="utf-8")
    raw = sorted(json.loads(text).items(), key=lambda item: -len(item[1]["asked"]))
    templates = {}
    for relation, given in raw:
        before, _, after = given["asked"].partition(_SLOT)
        pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)
        templates[relation] = _Template(pattern, tuple(given["reworded"]))
    return templates
