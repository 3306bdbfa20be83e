"""What the public formats of facts call their fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from horen.bench.records import Negative, Question, Record
from support.formats import ANSWERS, one, reason

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
