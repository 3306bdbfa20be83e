from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.bench.metrics.answers import containment, exact_match, normalised, token_f1
from horen.bench.metrics.overall import overall
from horen.bench.metrics.retention import perplexity

SCORES = [exact_match, containment, token_f1]
every_score = pytest.mark.parametrize("score", SCORES)
words = st.text("aAnthe tTébñ.'-’?1 ", max_size=25)
printable = st.text(string.ascii_letters + string.digits + string.punctuation + " \t\n", max_size=40)


def squad(text: str) -> str:
    """The published evaluation script (version 1.1), step by step."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@given(st.one_of(printable, words.filter(str.isascii)))
def test_ascii_is_normalised_as_by_the_published_script(text: str):
    assert normalised(text) == squad(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("U.S.", "us"),
        ("well-known", "wellknown"),
        ("an apple, a day; the end", "apple day end"),
        ("‘Curly’ — “quotes”…", "curly quotes"),
        ("1939–1945", "19391945"),
        ("¿Qué?", "qué"),
        ("Cafe\u0301", "caf\u00e9"),
        ("e-\u0301", "\u00e9"),
        ("２０２４", "2024"),
        ("Straße", "strasse"),
        ("2024年。", "2024年"),
        ("5 €", "5 €"),
        ("A\u0301", "\u00e1"),
        (" \n\t", ""),
        ("The", ""),
        ("?!", ""),
    ],
)
def test_normalised_by_hand(text: str, expected: str):
    assert normalised(text) == expected


@given(st.text(max_size=30))
def test_nothing_of_what_goes_is_left(text: str):
    form = normalised(text)
    assert form == " ".join(form.split())
    assert not set(form) & set(string.punctuation)
    assert not set(form.split()) & {"a", "an", "the"}


@given(words)
def test_normalising_twice_changes_nothing(text: str):
    assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize(
    ("answer", "targets", "exact", "contained", "f1"),
    [
        ("Paris", ["paris"], 1, 1, 1),
        ("The Paris.", ["Paris"], 1, 1, 1),
        ("It is Paris, France.", ["Paris"], 0, 1, 2 / 5),
        ("Parisian", ["Paris"], 0, 0, 0),
        ("New York City", ["New York"], 0, 1, 4 / 5),
        ("York, New", ["New York"], 0, 0, 1),
        ("New big York", ["New York"], 0, 0, 4 / 5),
        ("New York", ["New York City"], 0, 0, 4 / 5),
        ("Rome", ["Paris", "Rome"], 1, 1, 1),
        ("in Rome", ["Paris", "Rome", "Rome Italy"], 0, 1, 2 / 3),
        ("Paris Paris", ["Paris"], 0, 1, 2 / 3),
        ("", ["Paris"], 0, 0, 0),
        ("the", ["Paris"], 0, 0, 0),
        ("?", ["Paris"], 0, 0, 0),
    ],
)
def test_scores_by_hand(answer: str, targets: list[str], exact: float, contained: float, f1: float):
    assert exact_match(answer, targets) == exact
    assert containment(answer, targets) == contained
    assert token_f1(answer, targets) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "target", "exact", "contained"),
    [
        ("the", "The", 1, 1),
        ("A.", "A", 1, 1),
        ("It is a", "A", 0, 1),
        ("", "The", 0, 0),
        ("an", "The", 0, 0),
        ("?", "?", 1, 1),
        ("!", "?", 0, 0),
        ("", "?", 0, 0),
        ("It is ?", "?", 0, 1),
        ("It is !", "?", 0, 0),
        ("", "", 1, 1),
        ("  ", "", 1, 1),
        ("Paris", "", 0, 0),
    ],
)
def test_a_target_of_which_normalisation_leaves_nothing(answer: str, target: str, exact: float, contained: float):
    assert exact_match(answer, [target]) == exact
    assert containment(answer, [target]) == contained
    assert (token_f1(answer, [target]) == 1) == bool(exact)
    assert (token_f1(answer, [target]) > 0) == bool(contained)


def test_such_a_target_does_not_change_the_others():
    assert exact_match("the Who", ["?", "Who"]) == 1
    assert exact_match("the", ["Who", "?"]) == 0


@every_score
@given(answer=words, targets=st.lists(words, min_size=1, max_size=4))
def test_scores_lie_in_the_unit_interval_and_are_the_best_of_single_targets(
    score: Callable[[str, Sequence[str]], float], answer: str, targets: list[str]
):
    value = score(answer, targets)
    assert 0.0 <= value <= 1.0
    assert isinstance(value, float)
    assert value == max(score(answer, [target]) for target in targets)
    assert value == score(answer, targets[::-1])


@given(words, words)
def test_exact_is_the_strictest(answer: str, target: str):
    exact, contained, f1 = (score(answer, [target]) for score in SCORES)
    assert exact <= contained
    assert exact <= f1
    assert not (contained and f1 == 0)


@every_score
@given(text=st.text(max_size=30))
def test_a_text_is_its_own_answer(score: Callable[[str, Sequence[str]], float], text: str):
    assert score(text, [text]) == 1.0


@given(words.filter(normalised), words.filter(normalised))
def test_f1_is_symmetric(one: str, other: str):
    assert token_f1(one, [other]) == token_f1(other, [one])


@every_score
@pytest.mark.parametrize("targets", [[], (), "Paris"])
def test_targets_that_are_none(score: Callable[[str, Sequence[str]], float], targets: Sequence[str]):
    with pytest.raises(ValueError, match=r"targets=.* at least one text"):
        score("Paris", targets)


# --- small numbers ------------------------------------------------------------------------------------------------


def test_overall_is_the_mean_of_all_three_or_nothing():
    assert overall(1.0, 0.8, 0.9) == pytest.approx(0.9)
    assert overall(0.0, 0.0, 0.0) == 0.0
    for scores in ((None, 1.0, 1.0), (1.0, None, 1.0), (1.0, 1.0, None)):
        assert overall(*scores) is None


def test_perplexity_by_hand():
    assert perplexity(0.0, 5) == 1.0
    assert perplexity(4 * 0.6931471805599453, 4) == pytest.approx(2.0)
    assert perplexity(1e6, 1) == float("inf")


@pytest.mark.parametrize("tokens", [0, -1])
def test_perplexity_of_no_tokens(tokens: int):
    with pytest.raises(ValueError, match=f"tokens={tokens} must be at least 1"):
        perplexity(1.0, tokens)


@given(st.integers(2, 100_000), st.integers(1, 50))
def test_perplexity_of_a_uniform_guess_is_the_number_of_choices(choices: int, tokens: int):
    assert perplexity(tokens * math.log(choices), tokens) == pytest.approx(choices)
