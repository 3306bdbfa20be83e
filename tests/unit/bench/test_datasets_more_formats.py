"""What QAEdit, KnowEdit and files of one's own call their fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from horen.bench.records import Negative, Question, Record
from support.formats import ANSWERS, one, reason

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
