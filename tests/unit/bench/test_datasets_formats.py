"""What each public format calls its fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from horen.bench.datasets import load
from horen.bench.records import Negative, Question, Record, Rejected

ANSWERS = "text, a list of texts or a list of such lists is expected"


def read(folder: Path, name: str, *values: object) -> tuple[tuple[Record, ...], tuple[Rejected, ...]]:
    good: dict[str, dict[str, object]] = {
        "zsre": {"src": "Last?", "alt": "yes"},
        "counterfact": {"prompt": "Last?", "target_new": "yes"},
        "wikibigedit": {"update": "Last?", "ans": "yes"},
        "unke": {"question": "Last?", "answer": "yes"},
        "qaedit": {"prompt": "Last?", "target": "yes"},
        "knowedit": {"prompt": "Last?", "target_new": "yes"},
        "jsonl": {"prompt": "Last?", "target": "yes"},
    }
    path = folder / "data.json"
    path.write_text(json.dumps([*values, good[name]]))
    dataset = load(name, path)
    return dataset.records[:-1], dataset.rejected


def one(folder: Path, name: str, value: object) -> Record:
    (record,), rejected = read(folder, name, value)
    assert rejected == ()
    return record


def reason(folder: Path, name: str, value: object) -> str:
    records, (rejected,) = read(folder, name, value)
    assert records == ()
    return rejected.reason


ZSRE = {
    "subject": "Kestrel",
    "src": "Who runs Kestrel?",
    "pred": "Bea",
    "rephrase": "Kestrel's chief?",
    "alt": "Ada",
    "answers": ["Bea"],
    "loc": "nq question: who wrote Middlemarch?",
    "loc_ans": "George Eliot",
    "cond": "Bea >> Ada || Who runs Kestrel?",
    "portability": {"Recalled Relation": "(Ada, born, Oslo)", "New Question": "Born where?", "New Answer": "Oslo"},
}


class TestZsre:
    def test_fields_of_mend_and_easyedit(self, tmp_path: Path):
        assert one(tmp_path, "zsre", ZSRE) == Record(
            number=1,
            prompt="Who runs Kestrel?",
            target="Ada",
            rephrases=("Kestrel's chief?",),
            negatives=(Negative("who wrote Middlemarch?", "far"),),
            questions=(Question("Born where?", ("Oslo",), "one_hop"),),
            subject="Kestrel",
        )

    def test_lists(self, tmp_path: Path):
        changed = {"rephrase": ["A?", "B?"], "loc": ["nq question: c", "d nq question: ", "nq question: "]}
        record = one(tmp_path, "zsre", ZSRE | changed)
        assert record.rephrases == ("A?", "B?")
        assert [negative.text for negative in record.negatives] == ["c", "d nq question:"]

    @pytest.mark.parametrize("gone", [None, "", " ", []])
    def test_what_is_missing_is_left_out(self, tmp_path: Path, gone: object):
        record = one(tmp_path, "zsre", ZSRE | {"rephrase": gone, "loc": gone, "portability": None})
        assert (record.rephrases, record.negatives, record.questions) == ((), (), ())

    def test_another_name_and_the_way_back(self, tmp_path: Path):
        changed = {"portability": None, "alternative_subject": "The Falcon", "inverse question": "What does Ada run?"}
        assert one(tmp_path, "zsre", ZSRE | changed).questions == (
            Question("Who runs The Falcon?", ("Ada",), "alias"),
            Question("What does Ada run?", ("Kestrel",), "inverse"),
        )

    @pytest.mark.parametrize("subject", [None, "Heron"])
    def test_no_other_name_without_a_place_for_it(self, tmp_path: Path, subject: str | None):
        changed = {"portability": None, "alternative_subject": "The Falcon", "subject": subject}
        assert one(tmp_path, "zsre", ZSRE | changed).questions == ()

    @pytest.mark.parametrize("missing", ["New Question", "New Answer"])
    def test_half_a_question_is_none(self, tmp_path: Path, missing: str):
        portability = {"New Question": "Born where?", "New Answer": "Oslo"} | {missing: ""}
        assert one(tmp_path, "zsre", ZSRE | {"portability": portability}).questions == ()

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"rephrase": 3}, "rephrase is a number where text or a list of texts is expected"),
            ({"rephrase": ["A?", {}]}, "rephrase 2 is an object where text is expected"),
            ({"loc": True}, "loc is true or false where text or a list of texts is expected"),
            ({"portability": []}, "portability is a list where an object is expected"),
            ({"subject": ["Kestrel"]}, "subject is a list where text is expected"),
            (
                {"portability": {"New Question": "Born where?", "New Answer": {}}},
                "portability.New Answer is an object where " + ANSWERS,
            ),
        ],
    )
    def test_wrong_types(self, tmp_path: Path, changed: dict[str, object], told: str):
        assert reason(tmp_path, "zsre", ZSRE | changed) == told


REWRITE = {
    "prompt": "The chief of {} is",
    "target_new": {"str": "Ada", "id": "Q1"},
    "target_true": {"str": "Bea", "id": "Q2"},
    "subject": "Kestrel",
}
ROME = {
    "case_id": 0,
    "requested_rewrite": REWRITE,
    "paraphrase_prompts": ["It rained. Kestrel is led by", "Kestrel's chief:"],
    "neighborhood_prompts": ["The chief of Heron is", "Egret is led by"],
    "attribute_prompts": ["The chief of Osprey is", "The chief of Heron is"],
    "generation_prompts": ["Kestrel's chief likes"],
}


class TestCounterFact:
    def test_another_name(self, tmp_path: Path):
        assert one(tmp_path, "counterfact", ROME | {"alternative_subject": "The Falcon"}).questions == (
            Question("The chief of The Falcon is", ("Ada",), "alias"),
        )

    def test_fields_of_rome(self, tmp_path: Path):
        assert one(tmp_path, "counterfact", ROME) == Record(
            number=1,
            prompt="The chief of Kestrel is",
            target="Ada",
            rephrases=("It rained. Kestrel is led by", "Kestrel's chief:"),
            negatives=(
                Negative("The chief of Heron is", "near"),
                Negative("Egret is led by", "near"),
                Negative("The chief of Osprey is", "near"),
            ),
            subject="Kestrel",
        )

    def test_fields_of_easyedit(self, tmp_path: Path):
        value = {
            "prompt": "The chief of Kestrel is",
            "target_new": "Ada",
            "subject": "Kestrel",
            "ground_truth": "Bea",
            "rephrase_prompt": "Kestrel is led by",
            "locality_prompt": "The chief of Heron is",
            "locality_ground_truth": "Cy",
            "portability": {"New Question": "Kestrel's chief was born in", "New Answer": "Oslo"},
        }
        assert one(tmp_path, "counterfact", value) == Record(
            number=1,
            prompt="The chief of Kestrel is",
            target="Ada",
            rephrases=("Kestrel is led by",),
            negatives=(Negative("The chief of Heron is", "near"),),
            questions=(Question("Kestrel's chief was born in", ("Oslo",), "one_hop"),),
            subject="Kestrel",
        )

    @pytest.mark.parametrize(
        ("rewrite", "told"),
        [
            ({"prompt": None}, "it has no requested_rewrite.prompt"),
            ({"target_new": {}}, "it has no requested_rewrite.target_new.str"),
            ({"target_new": None}, "it has no requested_rewrite.target_new.str"),
            ({"target_new": "Ada"}, "requested_rewrite.target_new is text where an object is expected"),
            ({"subject": ""}, "it has no requested_rewrite.subject for the {} of requested_rewrite.prompt"),
        ],
    )
    def test_bad_rewrites(self, tmp_path: Path, rewrite: dict[str, object], told: str):
        assert reason(tmp_path, "counterfact", ROME | {"requested_rewrite": REWRITE | rewrite}) == told

    def test_a_prompt_without_a_slot_needs_no_subject(self, tmp_path: Path):
        rewrite = {"prompt": "Kestrel's chief is", "target_new": {"str": "Ada"}}
        record = one(tmp_path, "counterfact", {"requested_rewrite": rewrite})
        assert (record.prompt, record.subject) == ("Kestrel's chief is", None)


WIKI = {
    "tag": "update",
    "subject": "Kestrel",
    "update": "Who runs Kestrel?",
    "ans": "Ada",
    "rephrase": "Kestrel's chief?",
    "personas": "Arr, who be captain of Kestrel?",
    "loc": "Who runs Heron?",
    "loc_ans": "Cy",
    "mhop": "Where was Kestrel's chief born?",
    "mhop_ans": "Oslo",
}


class TestWikiBigEdit:
    def test_fields(self, tmp_path: Path):
        assert one(tmp_path, "wikibigedit", WIKI) == Record(
            number=1,
            prompt="Who runs Kestrel?",
            target="Ada",
            rephrases=("Kestrel's chief?",),
            negatives=(Negative("Who runs Heron?", "near"),),
            questions=(
                Question("Arr, who be captain of Kestrel?", ("Ada",), "personas"),
                Question("Where was Kestrel's chief born?", ("Oslo",), "multi_hop"),
            ),
            subject="Kestrel",
        )

    @pytest.mark.parametrize("gone", [None, float("nan"), ""])
    def test_what_is_missing_is_left_out(self, tmp_path: Path, gone: object):
        value = WIKI | dict.fromkeys(["rephrase", "personas", "loc", "mhop", "subject"], gone)
        assert one(tmp_path, "wikibigedit", value) == Record(1, "Who runs Kestrel?", "Ada")

    def test_a_persona_may_repeat_the_rephrase(self, tmp_path: Path):
        record = one(tmp_path, "wikibigedit", WIKI | {"personas": WIKI["rephrase"]})
        assert record.rephrases == ("Kestrel's chief?",)
        assert record.questions[0].text == "Kestrel's chief?"


UNKE = {
    "id": 0,
    "question": "Who runs Kestrel?",
    "para_question": "Kestrel's chief?",
    "answer": "Ada runs Kestrel. She founded it in 1990.",
    "sub_question": ["Who runs Kestrel?", "Since when?", " "],
    "sub_answer": ["Ada.", "1990.", "x"],
}


class TestUnke:
    def test_fields(self, tmp_path: Path):
        assert one(tmp_path, "unke", UNKE) == Record(
            number=1,
            prompt="Who runs Kestrel?",
            target="Ada runs Kestrel. She founded it in 1990.",
            rephrases=("Kestrel's chief?",),
            questions=(
                Question("Who runs Kestrel?", ("Ada.",), "sub_question"),
                Question("Since when?", ("1990.",), "sub_question"),
            ),
        )

    def test_questions_and_answers_that_do_not_pair(self, tmp_path: Path):
        told = reason(tmp_path, "unke", UNKE | {"sub_answer": ["Ada."]})
        assert told == "it has 3 of sub_question but 1 of sub_answer"


QAEDIT = {"id": 1, "source": "NQ", "prompt": "who runs kestrel", "target": "Ada", "subject": "kestrel"}


class TestQaedit:
    @pytest.mark.parametrize(
        "locality",
        [
            [{"loc": "who runs heron", "loc_ans": "Cy"}, {"loc": "how far", "loc_ans": "far"}],
            ["who runs heron", "how far ", ""],
            {"loc": ["who runs heron", "how far"], "loc_ans": ["Cy", "far"]},
        ],
    )
    def test_fields(self, tmp_path: Path, locality: object):
        value = QAEDIT | {"rephrase": "Who is it that runs Kestrel?", "locality": locality}
        assert one(tmp_path, "qaedit", value) == Record(
            number=1,
            prompt="who runs kestrel",
            target="Ada",
            rephrases=("Who is it that runs Kestrel?",),
            negatives=(Negative("who runs heron", "far"), Negative("how far", "far")),
            subject="kestrel",
        )

    def test_wrong_types(self, tmp_path: Path):
        assert reason(tmp_path, "qaedit", QAEDIT | {"locality": [3]}) == (
            "locality is a number where an object is expected"
        )


KNOWEDIT = {
    "subject": "Kestrel",
    "prompt": "The seat of Kestrel is",
    "target_new": "Oslo",
    "ground_truth": "Rome",
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Kestrel in Norway?", "ground_truth": [["yes"], ["correct", ""]]}],
        "Reasoning": [{"prompt": "The land of Kestrel's seat is", "ground_truth": "Norway"}],
        "Subject_Aliasing": [
            {"prompt": "The seat of Kestrel Ltd is", "ground_truth": [["Oslo", "Christiania"]]},
            {"prompt": "The seat of the Falcon is", "ground_truth": ["Bergen"]},
        ],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The chief of Kestrel is", "ground_truth": [["Ada"]]}],
        "Forgetfulness": [{"prompt": "The seat of Kestrel, which is not Oslo, is", "ground_truth": "Rome"}],
    },
}


class TestKnowEdit:
    def test_fields(self, tmp_path: Path):
        assert one(tmp_path, "knowedit", KNOWEDIT) == Record(
            number=1,
            prompt="The seat of Kestrel is",
            target="Oslo",
            negatives=(
                Negative("The chief of Kestrel is", "same_subject"),
                Negative("The seat of Kestrel, which is not Oslo, is", "same_subject"),
            ),
            questions=(
                Question("The seat of Kestrel Ltd is", ("Oslo", "Christiania"), "alias"),
                Question("The seat of the Falcon is", ("Bergen",), "reasoning"),
                Question("Is Kestrel in Norway?", ("yes", "correct"), "reasoning"),
                Question("The land of Kestrel's seat is", ("Norway",), "reasoning"),
            ),
            subject="Kestrel",
        )

    def test_columns(self, tmp_path: Path):
        value = {
            "prompt": "The seat of Kestrel is",
            "target_new": "Oslo",
            "rephrase_prompt": "Kestrel sits in",
            "portability": {
                "Reasoning": {"prompt": ["Land?", "River?", ""], "ground_truth": [["Norway"], "Aker", None]},
                "Subject_Aliasing": None,
            },
            "locality": {"Relation_Specificity": {"prompt": ["Chief?", "Founder?"]}, "Forgetfulness": []},
        }
        record = one(tmp_path, "knowedit", value)
        assert record.rephrases == ("Kestrel sits in",)
        assert [(asked.text, asked.answers) for asked in record.questions] == [
            ("Land?", ("Norway",)),
            ("River?", ("Aker",)),
        ]
        assert [negative.text for negative in record.negatives] == ["Chief?", "Founder?"]

    @pytest.mark.parametrize(
        ("reasoning", "told"),
        [
            ("Land?", "portability.Reasoning is text where an object is expected"),
            (
                {"prompt": ["Land?", "River?"], "ground_truth": ["Norway"]},
                "portability.Reasoning.ground_truth does not hold one item for each of 2 prompts",
            ),
            (
                [{"prompt": "Land?", "ground_truth": [[["Norway"]]]}],
                "portability.Reasoning.ground_truth is a list where " + ANSWERS,
            ),
        ],
    )
    def test_wrong_types(self, tmp_path: Path, reasoning: object, told: str):
        value = {"prompt": "The seat of Kestrel is", "target_new": "Oslo", "portability": {"Reasoning": reasoning}}
        assert reason(tmp_path, "knowedit", value) == told


class TestOwnData:
    def test_fields(self, tmp_path: Path):
        value = {
            "prompt": "Who runs Kestrel?",
            "target": "Ada",
            "rephrases": ["Kestrel's chief?"],
            "near": ["Who runs Heron?"],
            "far": "How far is the moon?",
            "same_subject": ["Where is Kestrel?"],
            "questions": [
                {"text": "Born where?", "answers": ["Oslo", "Christiania"], "kind": "multi_hop"},
                {"text": "Is Ada chief?", "answers": "yes", "kind": "reasoning"},
            ],
            "subject": "Kestrel",
        }
        assert one(tmp_path, "jsonl", value) == Record(
            number=1,
            prompt="Who runs Kestrel?",
            target="Ada",
            rephrases=("Kestrel's chief?",),
            negatives=(
                Negative("Who runs Heron?", "near"),
                Negative("How far is the moon?", "far"),
                Negative("Where is Kestrel?", "same_subject"),
            ),
            questions=(
                Question("Born where?", ("Oslo", "Christiania"), "multi_hop"),
                Question("Is Ada chief?", ("yes",), "reasoning"),
            ),
            subject="Kestrel",
        )

    @pytest.mark.parametrize(
        ("question", "told"),
        [
            ("Born where?", "questions 1 is text where an object is expected"),
            ({"text": "a", "answers": "b"}, "it has no questions 1.kind"),
            ({"text": "a", "kind": "personas"}, "it has no questions 1.answers"),
            ({"answers": "b", "kind": "personas"}, "it has no questions 1.text"),
            (
                {"text": "a", "answers": "b", "kind": "far"},
                "questions 1.kind is none of alias, inverse, personas, one_hop, multi_hop, sub_question, reasoning",
            ),
        ],
    )
    def test_bad_questions(self, tmp_path: Path, question: object, told: str):
        assert reason(tmp_path, "jsonl", {"prompt": "a?", "target": "b", "questions": [question]}) == told
