"""The scope that comes with the package: who and what real prompts ask."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from horen.model.encoder import ScopeEncoder, load_scope

pytestmark = pytest.mark.real

STORED = "Who is the head gardener of Mallow Hall?"
SAME = [
    "Who works as the head gardener at Mallow Hall?",
    "mallow hall head gardener",
    "The head gardener of Mallow Hall is",
]
OTHERS = [
    "How many rooms does Mallow Hall have?",
    "In which year was Mallow Hall built?",
    "Who is the head gardener of Pell Castle?",
    "Is Perpetua Oduya the head gardener of Mallow Hall?",
    "Write a poem about Mallow Hall.",
    "What is the capital of France?",
    "And since when?",
]


@pytest.fixture(scope="module")
def encoder() -> ScopeEncoder:
    return load_scope()


def scores(encoder: ScopeEncoder, stored: str, asked: Sequence[str]) -> list[float]:
    keys, queries = encoder([stored]), encoder(list(asked))
    products = queries * keys
    halves = torch.stack([half.sum(-1) for half in products.tensor_split(2, dim=-1)], dim=-1)
    return [judged.score for judged in encoder.scope.judged([stored] * len(asked), asked, halves)]


def test_the_same_question_in_other_words_is_likelier_than_any_other_question(encoder: ScopeEncoder) -> None:
    assert min(scores(encoder, STORED, SAME)) > max(scores(encoder, STORED, OTHERS))
    assert min(scores(encoder, STORED, SAME)) > 0.5 > max(scores(encoder, STORED, OTHERS))


def test_a_prompt_asks_for_itself(encoder: ScopeEncoder) -> None:
    for text in (STORED, *SAME, *OTHERS[:3]):
        assert scores(encoder, text, [text])[0] > 0.9, text


def test_keys_do_not_depend_on_the_batch(encoder: ScopeEncoder) -> None:
    texts = [STORED, *SAME, *OTHERS]
    together = encoder(texts)
    for row, text in zip(together, texts, strict=True):
        torch.testing.assert_close(encoder([text])[0], row, atol=1e-5, rtol=0)


def test_what_ships_is_small(encoder: ScopeEncoder) -> None:
    from pathlib import Path  # noqa: PLC0415

    import horen.data  # noqa: PLC0415

    folder = Path(horen.data.__file__).parent / "scope_model"
    assert sum(place.stat().st_size for place in folder.iterdir()) <= 12_000_000
    assert encoder.size == 384
