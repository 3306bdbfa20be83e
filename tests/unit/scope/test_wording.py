from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.scope.wording import EVIDENCE, Words

COMMON = [
    "who is the chief executive of",
    "what is the capital of",
    "how much does the plan of cost",
    "who runs",
    "when",
]
WORDS = Words.of([text for text in COMMON for _ in range(3)])


def seen(stored: str, asked: str) -> dict[str, float]:
    return dict(zip(EVIDENCE, WORDS.evidence(stored, asked), strict=True))


@pytest.mark.parametrize(
    "asked",
    [
        "who runs Fennick Robotics",
        "WHO RUNS FENNICK ROBOTICS?",
        "who runs fenick robotics",
        "Fennick Robotics's chief executive",
        "chief executive of fennick robotic",
        "Who is the chief executive of Fennikc Robotics",
    ],
)
def test_a_name_is_found_again(asked: str):
    found = seen("Who is the chief executive of Fennick Robotics?", asked)
    assert found["missing_name"] == 0
    assert found["extra_name"] == 0


@pytest.mark.parametrize("asked", ["Who runs Kestrel Robotics?", "Who runs Fennick?", "who runs it"])
def test_a_name_that_is_not_there_is_missed(asked: str):
    assert seen("Who is the chief executive of Fennick Robotics?", asked)["missing_name"] > 0.3


def test_a_name_that_came_on_top_is_seen():
    assert seen("What is the capital of Guinea?", "What is the capital of Guinea Bissau?")["extra_name"] > 0.3


@pytest.mark.parametrize(
    ("stored", "asked", "missing", "extra"),
    [
        ("the budget of 2031", "the budget of 2031", 0, 0),
        ("the budget of 2031", "the budget of 2027", 1, 1),
        ("the budget", "the budget of 2027", 0, 1),
        ("iPhone 14 price", "iPhone price", 1, 0),
        ("route 12", "route 121", 1, 1),
    ],
)
def test_numbers_are_no_typing_mistakes(stored: str, asked: str, missing: int, extra: int):
    found = seen(stored, asked)
    assert (found["missing_number"], found["extra_number"]) == (missing, extra)


def test_common_words_count_little():
    assert WORDS.weights["is"] < WORDS.weights["capital"]
    near = seen("What is the capital of Peru?", "the capital, Peru")["common_words"]
    far = seen("What is the capital of Peru?", "What is the plan of Chile?")["common_words"]
    assert near > far + 0.2


@given(st.text(), st.text())
def test_evidence_is_a_share_for_any_text(stored: str, asked: str):
    found = WORDS.evidence(stored, asked)
    assert len(found) == len(EVIDENCE)
    assert all(0 <= value <= 1 for value in found)


@given(st.text())
def test_a_text_lacks_nothing_of_itself(text: str):
    found = seen(text, text)
    assert found["missing_name"] == found["extra_name"] == found["missing_number"] == found["extra_number"] == 0
