"""What the scope model learns from: subjects with several facts each, every fact in several wordings.

Knows neither the encoder nor the loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from horen.data import load_bank
from horen.errors import DataError

#: Files of the package, by what they may be used for: training the networks, joining their evidence, and saying what
#: came of it.
FIT = (
    *("atlas", "counter", "culture", "desk", "errands", "ledger", "places", "products", "village", "work"),
    *("agenda", "contacts", "devices", "earth", "homes", "lives", "makers", "notables", "offices", "ours", "prices"),
    *("rules", "stories", "wonders"),
)
CHOOSE = ("town", "trips")
CERTIFY = ("people", "events")


@dataclass(frozen=True)
class Kind:
    """Subjects of one kind.

    Attributes:
        names: of different subjects.
        alike: pairs of names that are different subjects and look alike.
        aliases: pairs of names of one subject.
        universe: relations of one universe can be told apart; "" is that of kinds of many subjects.
    """

    names: tuple[str, ...]
    alike: tuple[tuple[str, str], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    universe: str = ""


@dataclass(frozen=True)
class Relation:
    """What may be asked of any subject of a kind; in texts {x} stands for its name and {q} for a qualifier.

    Attributes:
        name: unique within its kind.
        kind: of the subjects.
        ask: wordings that ask for one fact.
        traps: prompts in much the same words that do not ask for it.
        qualifiers: each of which makes another fact; empty where there is none.
    """

    name: str
    kind: str
    ask: tuple[str, ...]
    traps: tuple[str, ...] = ()
    qualifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A subject of running text, such as a data set's, with what is asked about it.

    Attributes:
        name: as the texts have it.
        facts: by relation, wordings that ask for the same fact; each has the name in it where it can.
        aliases: texts that ask for the fact of a relation under another name.
        universe: subjects of one universe name the same relations alike; across universes nothing is known.
    """

    name: str
    facts: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    universe: str = ""


@dataclass(frozen=True)
class Corpus:
    """Templates by kind, and subjects of running text."""

    kinds: Mapping[str, Kind]
    relations: tuple[Relation, ...]
    subjects: tuple[Subject, ...] = ()

    def by_kind(self) -> dict[str, list[Relation]]:
        """Return the relations of each kind."""
        found: dict[str, list[Relation]] = {}
        for relation in self.relations:
            found.setdefault(relation.kind, []).append(relation)
        return found

    def __add__(self, other: Corpus) -> Corpus:
        return Corpus({**self.kinds, **other.kinds}, self.relations + other.relations, self.subjects + other.subjects)


def packaged(names: Sequence[str]) -> Corpus:
    """Return the templates of some of the package's files; see ``FIT`` and ``CHOOSE``."""
    whole = Corpus({}, ())
    for name in names:
        text = resources.files("horen.data").joinpath(f"scope/{name}.jsonl").read_text(encoding="utf-8")
        whole += parse(name, text.splitlines())
    return whole


def parse(name: str, lines: Sequence[str]) -> Corpus:
    """Read the templates of a file: lines of kinds, then the relations that name them, and lines of subjects.

    Raises:
        DataError: naming the line that is not as it should be.
    """
    kinds: dict[str, Kind] = {}
    relations: list[Relation] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record: dict[str, Any] = json.loads(line)
            if "subject" in record:
                kind = f"{name}/{number}"
                kinds[kind] = _single(kind, record)
                relations += [
                    Relation(str(place), kind, tuple(fact["ask"]), tuple(fact["not"]))
                    for place, fact in enumerate(record["facts"])
                ]
                continue
            kind = f"{name}/{record['type']}"
            if "names" in record:
                kinds[kind] = Kind(
                    tuple(record["names"]), _pairs(record.get("alike", [])), _pairs(record.get("aliases", []))
                )
            else:
                relations.append(_relation(kind, record))
                kinds[kind]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{name}, line {number}: no kind or relation ({error!r}); fix the line.") from error
    said = {(relation.kind, text) for relation in relations for text in relation.ask}
    # What a sister relation asks for is no trap of its own.
    return Corpus(
        kinds,
        tuple(replace(r, traps=tuple(text for text in r.traps if (r.kind, text) not in said)) for r in relations),
    )


def _relation(kind: str, record: Mapping[str, Any]) -> Relation:
    traps, qualifiers = tuple(record.get("not", ())), tuple(record.get("q", ()))
    return Relation(record["relation"], kind, tuple(record["ask"]), traps, qualifiers)


def _single(kind: str, record: Mapping[str, Any]) -> Kind:
    """Return a kind of one subject, whose relations may be those of any other kind."""
    name = record["subject"]
    return Kind(
        (name,), tuple((name, other) for other in record["alike"]), tuple((name, o) for o in record["alias"]), kind
    )


def bank_corpus() -> Corpus:
    """Return the bundled bank of prompts as templates; it has no traps."""
    bank = load_bank()
    kinds = {f"bank/{name}": Kind(names) for name, names in bank.entities.items()}
    relations = tuple(Relation(item.name, f"bank/{item.entities}", item.templates) for item in bank.relations)
    return Corpus(kinds, relations)


def _pairs(given: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((one, two) for one, two in given)


def public(folder: Path) -> Corpus:
    """Read the subjects of the public files that lie in a folder, whichever of them are there.

    The files are those of KnowEdit (EasyEdit), ZsRE with ten rephrases, and SimpleQuestions on Wikidata, under the
    names that docs/scope.md lists.

    Raises:
        DataError: when it is no folder, or a file in it is not what its name says.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one that holds public files, or leave it out.")
    readers = {
        "knowedit_recent_train.json": _knowedit,
        "knowedit_counterfact_train.json": _knowedit,
        "zsre_ten_paraphrases.jsonl": _ten_paraphrases,
        "simplequestions_wikidata_train.txt": _simple_questions,
        "counterfact_other_attribution.jsonl": _attribution,
    }
    found: list[Subject] = []
    for name, reader in readers.items():
        if (folder / name).exists():
            try:
                found.extend(reader((folder / name).read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{folder / name} is not the file of that name ({error!r}): fetch it anew.") from error
    return Corpus({}, (), tuple(found))


def _records(text: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(text)
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return found


def _prompts(items: object) -> list[str]:
    return [item["prompt"].strip() for item in items or ()] if isinstance(items, list) else []


def _knowedit(text: str) -> Iterator[Subject]:
    for record in _records(text):
        subject, facts, aliases = record["subject"], {}, {}
        for prompt in (record["prompt"], *_prompts(record["locality"].get("Relation_Specificity"))):
            if subject in prompt:
                facts[prompt.replace(subject, "{x}")] = (prompt,)
        own = record["prompt"].replace(subject, "{x}")
        if own in facts:
            aliases[own] = tuple(_prompts(record.get("portability", {}).get("Subject_Aliasing")))
            yield Subject(subject, facts, aliases, "knowedit")


def _ten_paraphrases(text: str) -> Iterator[Subject]:
    for number, record in enumerate(_records(text)):
        said = [line.split(". ", 1)[-1].strip() for line in record.get("generate_prompt", [])]
        own = [record["prompt"], record["rephrase_prompt"], *(line for line in said if len(line.split()) > 3)]
        other = _prompts(record["locality"].get("Relation_Specificity"))
        # About one in eleven of these asks for the same fact: what shares most of its words is left out.
        words = {word.strip("?.,'").lower() for line in own for word in line.split()}
        name = set(record["subject"].lower().split())
        facts = {"own": tuple(dict.fromkeys(own))}
        for line in other:
            rest = {word.strip("?.,'").lower() for word in line.split()} - name
            meant = rest - {"the", "of", "is", "a", "in", "to", "was", "for", "name", "by", "on"}
            if meant and not meant & words:
                facts[" ".join(sorted(meant))] = (line,)
        yield Subject(record["subject"], facts, {}, f"zsre/{number}")


def _simple_questions(text: str) -> Iterator[Subject]:
    """Only subjects with several relations: questions that share a subject are what is learned from."""
    by: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        subject, relation, _, question = line.split("\t")
        by.setdefault(subject, {}).setdefault(relation, []).append(question.strip())
    for facts in by.values():
        several = {name: tuple(dict.fromkeys(texts)) for name, texts in facts.items()}
        if len(several) > 1 or any(len(texts) > 1 for texts in several.values()):
            yield Subject("", several, {}, "simple")


def _attribution(text: str) -> Iterator[Subject]:
    for record in _records(text):
        rewrite = record["requested_rewrite"]
        subject, prompt = rewrite["subject"], rewrite["prompt"]
        # Rephrases begin with unrelated sentences; the last one asks.
        own = (prompt.replace("{}", subject), *(line.split(". ")[-1] for line in record["paraphrase_prompts"]))
        facts = {prompt.replace("{}", "{x}"): tuple(line for line in own if subject in line)}
        other = record.get("unrelated_relation", {}).get("question", "")
        if subject in other:
            facts[other.replace(subject, "{x}")] = (other,)
        if len(facts) > 1:
            yield Subject(subject, facts, {}, "counterfact")


@cache
def always() -> Mapping[str, tuple[str, ...]]:
    """Return what asks for no fact: requests "about" a subject {x}, and what is said to "follow" an answer."""
    found = json.loads(resources.files("horen.data").joinpath("scope/always.json").read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in found.items()}
