from __future__ import annotations

import string
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from horen.bench.metrics.overlap import Overlap, Similarity, overlap
from horen.errors import MissingExtraError, ModelError

texts = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "Größe", "1,5", "dog."]), max_size=12).map(
    " ".join
)
ascii_texts = st.text(string.ascii_letters + string.digits + string.punctuation + " \n\t", max_size=40)


class Table:
    """An encoder that looks its embeddings up."""

    def __init__(self, rows: dict[str, list[float]], make: Any = np.array) -> None:
        self.rows = rows
        self.make = make

    def encode(self, sentences: list[str]) -> Any:
        return self.make([self.rows[sentence] for sentence in sentences])


def test_overlap_by_hand():
    found = overlap("the cat sat", "the cat lay down")
    # 2 of 3 and 2 of 4 words, 1 of 2 and 1 of 3 pairs, "the cat" in order.
    assert found.rouge_1 == pytest.approx(2 * 2 / (3 + 4))
    assert found.rouge_2 == pytest.approx(2 * 1 / (2 + 3))
    assert found.rouge_l == pytest.approx(2 * 2 / (3 + 4))
    # n-gram precisions 2/3, 1/2 and, smoothed, (1/2)/1; brevity penalty exp(1 - 4/3).
    assert found.bleu == pytest.approx(np.exp(1 - 4 / 3) * (2 / 3 * 1 / 2 * 1 / 2) ** (1 / 3))


def test_the_longest_common_subsequence_needs_the_order():
    found = overlap("mat the on cat", "cat on the mat")
    assert found.rouge_1 == 1.0
    assert found.rouge_l == pytest.approx(1 / 4)


@pytest.mark.parametrize("pair", [("", ""), ("", "a cat"), ("a cat", ""), ("?!", "a cat"), ("\n", "…")])
def test_texts_without_words_overlap_in_nothing(pair: tuple[str, str]):
    found = overlap(*pair)
    assert (found.rouge_1, found.rouge_2, found.rouge_l) == (0.0, 0.0, 0.0)
    assert found.bleu == 0.0


def test_a_short_answer_to_itself_has_full_bleu():
    assert overlap("Paris", "Paris") == Overlap(1.0, 0.0, 1.0, 1.0)


def test_letters_beyond_ascii_make_words():
    assert overlap("Она живёт в Москве", "Она живёт в Риме").rouge_1 == pytest.approx(3 / 4)
    assert overlap("café", "cafè").rouge_1 == 0.0


@given(ascii_texts, ascii_texts)
def test_rouge_of_ascii_text_is_that_of_the_library(answer: str, target: str):
    names = ["rouge1", "rouge2", "rougeL"]
    plain = rouge_scorer.RougeScorer(names, use_stemmer=False).score(target, answer)
    found = overlap(answer, target)
    assert [found.rouge_1, found.rouge_2, found.rouge_l] == [plain[name].fmeasure for name in names]


@given(texts, texts)
def test_overlap_lies_in_the_unit_interval_and_rouge_is_symmetric(answer: str, target: str):
    found, turned = overlap(answer, target), overlap(target, answer)
    assert all(0.0 <= score <= 1.0 for score in (found.rouge_1, found.rouge_2, found.rouge_l, found.bleu))
    assert found.rouge_l <= found.rouge_1 + 1e-12
    assert found.rouge_1 == pytest.approx(turned.rouge_1)
    assert found.rouge_2 == pytest.approx(turned.rouge_2)
    assert found.rouge_l == pytest.approx(turned.rouge_l)


@given(texts.filter(lambda text: len(text.split()) > 1))
def test_a_text_overlaps_fully_with_itself(text: str):
    found = overlap(text, text)
    assert (found.rouge_1, found.rouge_2, found.rouge_l) == (1.0, 1.0, 1.0)
    assert found.bleu == pytest.approx(1.0)


# --- similarity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.array, torch.tensor, list])
def test_similarity_is_the_cosine_and_never_negative(make: Any):
    rows = {"a": [2.0, 0.0], "b": [0.0, 3.0], "c": [1.0, 1.0], "d": [-1.0, 0.0], "none": [0.0, 0.0]}
    similarity = Similarity(Table(rows, make))
    found = similarity(["a", "a", "a", "a", "none", "none"], ["a", "b", "c", "d", "a", "none"])
    assert found == pytest.approx([1.0, 0.0, 0.5**0.5, 0.0, 0.0, 0.0])
    assert all(isinstance(score, float) for score in found)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=2, max_size=6))
def test_similarity_lies_in_the_unit_interval_and_is_symmetric(rows: list[list[float]]):
    similarity = Similarity(Table({str(number): row for number, row in enumerate(rows)}))
    names = [str(number) for number in range(len(rows))]
    found = similarity(names, names[::-1])
    assert all(0.0 <= score <= 1.0 for score in found)
    assert found == pytest.approx(similarity(names[::-1], names))


def test_similarity_of_nothing_asks_no_encoder():
    assert Similarity(Table({}))([], []) == []


@pytest.mark.parametrize(("answers", "targets"), [(["a"], []), (["a"], ["a", "b"]), ("a", ["a"]), (["a"], "a")])
def test_similarity_of_sequences_that_do_not_match(answers: Any, targets: Any):
    with pytest.raises(ValueError, match="equally long"):
        Similarity(Table({"a": [1.0], "b": [1.0]}))(answers, targets)


@pytest.mark.parametrize("name", ["some/encoder", Path("some/encoder")])
def test_a_named_encoder_is_loaded_once(monkeypatch: pytest.MonkeyPatch, name: str | Path):
    loaded = []

    def load(source: str, *, device: str | None) -> Table:
        loaded.append((source, device))
        return Table({"a": [1.0]})

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=load))
    similarity = Similarity(name, device="cpu")
    assert similarity(["a"], ["a"]) == similarity(["a"], ["a"]) == [1.0]
    assert loaded == [(str(Path("some/encoder")), "cpu")]


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'horen\[encoder\]', or leave the similarity out"):
        Similarity("some/encoder")


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("no such thing\nand more"), "no such thing"), (ValueError(), "ValueError")]
)
def test_an_encoder_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str):
    def load(source: str, *, device: str | None) -> Table:  # noqa: ARG001
        raise error

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=load))
    with pytest.raises(ModelError, match=rf"'some/encoder' cannot be loaded as a sentence encoder \({reason}\): give"):
        Similarity("some/encoder")
