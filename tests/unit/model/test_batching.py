from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from horen.model.batching import batches, read_in_batches


@given(st.lists(st.text(max_size=9), max_size=20), st.integers(1, 6))
def test_every_item_comes_once_and_shorter_ones_come_first(items: list[str], size: int):
    made = list(batches(items, size))
    order = [i for batch in made for i in batch]
    assert sorted(order) == list(range(len(items)))
    assert [len(items[i]) for i in order] == sorted(map(len, items))
    assert [len(batch) for batch in made[:-1]] == [size] * (len(made) - 1)


@given(st.lists(st.text(max_size=9), min_size=1, max_size=20), st.integers(1, 6))
def test_rows_come_back_in_the_order_of_the_items(items: list[str], size: int):
    found = read_in_batches(items, size, lambda batch: torch.tensor([[i, len(items[i])] for i in batch]))
    assert found.tolist() == [[i, len(item)] for i, item in enumerate(items)]
