"""EntityQuestions: rephrases from templates, negatives from other facts, and the published form without relations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.bench.datasets import load
from horen.bench.records import Dataset, Record
from horen.edits import same_text

ASKED = {
    "P112": "Who founded {}?",
    "P159": "Where is the headquarter of {}?",
    "P131": "Where is {} located?",
    "P276": "Where is {} located?",
}


def fact(relation: str, subject: str, answer: str = "Ada") -> dict[str, object]:
    return {
        "split": "train",
        "relation": relation,
        "subject": subject,
        "src": ASKED[relation].format(subject),
        "answers": [answer, "Bea"],
    }


def bare(value: dict[str, object]) -> dict[str, object]:
    return {"question": value["src"], "answers": value["answers"]}


def put(folder: Path, *facts: Mapping[str, object], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(value) + "\n" for value in facts))
    return path


def negatives(dataset: Dataset) -> list[dict[str, str]]:
    found = [{negative.kind: negative.text for negative in record.negatives} for record in dataset.records]
    assert [len(record.negatives) for record in dataset.records] == list(map(len, found))
    return found


@pytest.fixture(scope="module")
def templates() -> dict[str, tuple[str, list[str]]]:
    raw = resources.files("horen.data").joinpath("entity_templates.json").read_text(encoding="utf-8")
    return {relation: (both["asked"], both["reworded"]) for relation, both in json.loads(raw).items()}


class TestTemplates:
    def test_every_relation_has_three_of_its_own(self, templates: dict[str, tuple[str, list[str]]]):
        assert len(templates) == 24
        assert all(len(reworded) >= 3 for _, reworded in templates.values())
        asked = [text for text, _ in templates.values()]
        everything = [text for _, reworded in templates.values() for text in reworded]
        assert all(text.count("{x}") == 1 for text in [*asked, *everything])
        # A wording that two relations share would ask for two answers at once.
        assert len({text.casefold() for text in everything}) == len(everything)
        assert {text.casefold() for text in everything}.isdisjoint(text.casefold() for text in asked)

    def test_the_question_tells_the_relation(self, tmp_path: Path, templates: dict[str, tuple[str, list[str]]]):
        subject = "Who is {x}'s child?"
        for relation, (asked, _) in templates.items():
            value = {"question": asked.replace("{x}", subject), "answers": ["Ada"]}
            (record,) = load("entity_questions", put(tmp_path, value)).records
            _, reworded = templates["P131" if relation == "P276" else relation]
            assert record.subject == subject
            assert list(record.rephrases) == [text.replace("{x}", subject) for text in reworded]


def test_a_record(tmp_path: Path):
    (record,) = load("entity_questions", put(tmp_path, fact("P112", "Kestrel"))).records
    assert record == Record(
        number=1,
        prompt="Who founded Kestrel?",
        target="Ada",
        rephrases=(
            "By whom was Kestrel established?",
            "What is the name of the founder of Kestrel?",
            "Name the person who started Kestrel.",
        ),
        subject="Kestrel",
    )


def test_unknown_relations_have_no_rephrases(tmp_path: Path):
    value = {"relation": "P9", "subject": "Kestrel", "src": "What colour is Kestrel?", "answers": ["red"]}
    (record,) = load("entity_questions", put(tmp_path, value)).records
    assert (record.rephrases, record.subject) == ((), "Kestrel")


def test_unknown_questions_have_neither_rephrases_nor_negatives(tmp_path: Path):
    values = [{"question": f"What colour is {name}?", "answers": ["red"]} for name in "ab"]
    for record in load("entity_questions", put(tmp_path, *values)).records:
        assert (record.rephrases, record.negatives, record.subject) == ((), (), None)


@pytest.mark.parametrize("answers", [[], [" "], None, ""])
def test_no_answer_is_no_target(tmp_path: Path, answers: object):
    path = put(tmp_path, fact("P112", "Kestrel"), fact("P112", "Heron") | {"answers": answers})
    (rejected,) = load("entity_questions", path).rejected
    assert (rejected.number, rejected.reason) == (2, "it has no answers")


class TestNegatives:
    @pytest.mark.parametrize("strip", [False, True])
    def test_near_is_the_next_of_the_relation_with_another_subject(self, tmp_path: Path, strip: bool):
        facts = [
            fact("P112", "Kestrel"),
            fact("P112", "Kestrel ", "Cy"),
            fact("P159", "Heron"),
            fact("P112", "Egret"),
            fact("P112", "Kestrel", "Dan"),
        ]
        dataset = load("entity_questions", put(tmp_path, *map(bare, facts) if strip else facts))
        assert [found.get("near") for found in negatives(dataset)] == [
            "Who founded Egret?",
            "Who founded Egret?",
            None,
            "Who founded Kestrel?",
            "Who founded Egret?",
        ]

    def test_same_subject_is_another_relation(self, tmp_path: Path):
        facts = [fact("P112", "Kestrel"), fact("P112", "Heron"), fact("P159", "Kestrel", "Oslo")]
        assert [found.get("same_subject") for found in negatives(load("entity_questions", put(tmp_path, *facts)))] == [
            "Where is the headquarter of Kestrel?",
            None,
            "Who founded Kestrel?",
        ]

    def test_a_relation_in_the_same_words_is_no_negative(self, tmp_path: Path):
        facts = [fact("P131", "Kestrel", "Oslo"), fact("P276", "Kestrel", "a wood")]
        assert negatives(load("entity_questions", put(tmp_path, *facts))) == [{}, {}]
        more = load("entity_questions", put(tmp_path, *facts, fact("P112", "Kestrel")))
        assert negatives(more)[0] == {"same_subject": "Who founded Kestrel?"}

    def test_facts_beyond_the_limit_come_first(self, tmp_path: Path):
        facts = [fact("P112", name) for name in ("Kestrel", "Heron", "Egret", "Osprey", "Osprey", "Kestrel", "Harrier")]
        facts.insert(3, fact("P159", "Heron"))
        dataset = load("entity_questions", put(tmp_path, *facts), limit=3)
        assert len(dataset.records) == 3
        assert negatives(dataset) == [
            {"near": "Who founded Osprey?"},
            {"near": "Who founded Harrier?", "same_subject": "Where is the headquarter of Heron?"},
            {"near": "Who founded Osprey?"},
        ]

    def test_companions_serve_as_well(self, tmp_path: Path):
        own = put(tmp_path, fact("P112", "Kestrel"), fact("P112", "Heron"))
        other = put(tmp_path, fact("P159", "Kestrel"), fact("P112", "Egret"), {}, name="other.jsonl")
        dataset = load("entity_questions", own, companions=[other])
        assert negatives(dataset) == [
            {"near": "Who founded Egret?", "same_subject": "Where is the headquarter of Kestrel?"},
            {"near": "Who founded Egret?"},
        ]
        assert [(item.number, item.reason) for item in dataset.rejected] == [(3, f"{other}: it has no src")]

    @given(
        facts=st.lists(st.builds(fact, st.sampled_from(sorted(ASKED)), st.sampled_from("abcd"), st.sampled_from("xy"))),
        limit=st.none() | st.integers(1, 12),
    )
    def test_an_edit_is_a_negative_only_where_nothing_else_is(
        self, tmp_path_factory: pytest.TempPathFactory, facts: list[dict[str, object]], limit: int | None
    ):
        facts.append(fact("P112", "a"))
        dataset = load("entity_questions", put(tmp_path_factory.mktemp("facts"), *facts), limit=limit)
        edited = {same_text(record.prompt) for record in dataset.records}
        for record, found in zip(dataset.records, negatives(dataset), strict=True):
            own = facts[record.number - 1]
            others = {
                "near": {
                    str(other["src"])
                    for other in facts
                    if other["relation"] == own["relation"] and other["subject"] != own["subject"]
                },
                "same_subject": {
                    str(other["src"])
                    for other in facts
                    if other["subject"] == own["subject"] and other["src"] != own["src"]
                },
            }
            for kind, choices in others.items():
                if choices - edited:
                    assert found[kind] in choices - edited
                elif limit is None:
                    assert (found[kind] in choices) if choices else kind not in found
                else:
                    assert found.get(kind) in {None, *choices}
