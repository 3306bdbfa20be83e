from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from horen.model.pooling import Pooling, rare_weights
from support.tiny_tokenizers import tiny_tokenizer

STATES = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 2.0], [7.0, 8.0]])
IDS = [0, 1, 2, 1]


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1), (0.2, 1), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_the_last_share_of_the_tokens_is_averaged(share: float, kept: int):
    torch.testing.assert_close(Pooling(share)(STATES, IDS), STATES[-kept:].mean(0))


def test_tokens_count_by_their_weight():
    pooling = Pooling(0.6, torch.tensor([9.0, 1.0, 2.0]))
    torch.testing.assert_close(pooling(STATES, IDS), (STATES[1] + 2 * STATES[2] + STATES[3]) / 4)
    torch.testing.assert_close(pooling(STATES.bfloat16(), IDS), (STATES[1] + 2 * STATES[2] + STATES[3]) / 4)


def test_embeddings_without_ids_count_alike():
    weighted = Pooling(1.0, torch.tensor([9.0, 1.0, 2.0]))
    torch.testing.assert_close(weighted(STATES, [-1] * 4), STATES.mean(0))


@given(st.lists(st.integers(0, 2), min_size=4, max_size=4), st.floats(0.1, 10))
def test_only_the_ratio_of_weights_matters(ids: list[int], scale: float):
    weights = torch.tensor([0.3, 1.0, 0.02])
    torch.testing.assert_close(Pooling(1.0, weights)(STATES, ids), Pooling(1.0, scale * weights)(STATES, ids))


def test_rare_tokens_weigh_more():
    tokenizer = tiny_tokenizer()
    texts = ["Who wrote Hamlet?", "Who wrote it?"]
    vocabulary = len(tokenizer) + 5
    weights = rare_weights(tokenizer, texts, vocabulary)
    assert weights is not None
    assert weights.shape == (vocabulary,)
    rows = [tokenizer(read, add_special_tokens=False)["input_ids"] for text in texts for read in (text, f" {text}")]
    flat = [token for row in rows for token in row]
    seen = set(flat)
    for token in seen:
        assert float(weights[token]) == pytest.approx(5e-4 / (5e-4 + flat.count(token) / len(flat)))
    assert all(float(weights[token]) == 1 for token in range(vocabulary) if token not in seen)
