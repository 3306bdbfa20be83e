"""Batches of edits, and seeds that depend on a text alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from horen.editing.training import packed, seeded


@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), max_size=20),
    tokens=st.integers(1, 60),
    vocabulary=st.sampled_from([10, 2**27, 2**24]),
)
def test_every_edit_is_in_one_batch_that_fits(lengths: list[list[int]], tokens: int, vocabulary: int):
    batches = list(packed(lengths, tokens, vocabulary))
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        rows = [length for number in batch for length in lengths[number]]
        assert len(batch) == 1 or len(rows) * max(rows) <= min(tokens, max(2**27 // vocabulary, 1))


@given(text=st.text())
def test_a_text_gives_the_same_numbers_every_time(text: str):
    assert torch.equal(torch.rand(4, generator=seeded(text)), torch.rand(4, generator=seeded(text)))
    assert not torch.equal(torch.rand(4, generator=seeded(text)), torch.rand(4, generator=seeded(text + "x")))
