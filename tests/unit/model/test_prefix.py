from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from horen.model.prefix import Stem, prefix_states, stems
from support.tiny_models import FAMILIES, tiny_model

SHARED = tuple(range(10, 22))
OTHER = tuple(range(40, 52))


def test_rows_that_begin_alike_are_one_group():
    rows = [(*SHARED, 1), (3, 4), (*SHARED, 2, 3), (*OTHER, 5), (*OTHER, 6), ()]
    assert sorted(stems(rows), key=lambda stem: -stem.length) == [Stem(12, (0, 2)), Stem(12, (3, 4)), Stem(0, (1,))]


def test_a_short_beginning_is_not_shared():
    assert stems([(1, 2, 3, 4), (1, 2, 3, 5)]) == [Stem(0, (0, 1))]


def test_a_row_that_would_cost_the_group_more_than_it_brings_stays_out():
    long = tuple(range(100, 140))
    rows = [(*SHARED, *long, 1), (*SHARED, *long, 2), (*SHARED, 200)]
    # joined, three rows would share 12 tokens (24 saved); apart, two share 52 (52 saved)
    assert Stem(52, (0, 1)) in stems(rows)


@given(st.lists(st.lists(st.integers(0, 2), max_size=24), max_size=12))
def test_every_row_with_tokens_is_in_one_group_and_begins_as_the_group_does(rows: list[list[int]]):
    groups = stems(rows)
    assert sorted(i for stem in groups for i in stem.rows) == [i for i, row in enumerate(rows) if row]
    for stem in groups:
        assert len({tuple(rows[i][: stem.length]) for i in stem.rows}) == 1
        assert stem.length == 0 or (stem.length >= 8 and len(stem.rows) > 1)


@pytest.mark.parametrize("together", [1, 32])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_each_row_alone(family: str, together: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.model.prefix._ROWS_TOGETHER", together)
    model = tiny_model(family)
    rows = [(*SHARED, 1), (*SHARED, 2, 3, 4), SHARED, (5,), (), (*OTHER, *OTHER, *OTHER, 6), (*OTHER, *OTHER, 7, 8)]
    with torch.no_grad():
        found = prefix_states(model, rows)
        width = max(map(len, rows))
        for number, row in enumerate(rows):
            cache = DynamicCache()
            if row:
                model.base_model(input_ids=torch.tensor([row]), past_key_values=cache, use_cache=True)
            for layer, states in found.items():
                for name, whole in zip(("keys", "values"), states, strict=True):
                    assert whole.shape[2] == width
                    assert not whole[number, :, : width - len(row)].any()
                    if row:
                        alone = getattr(cache.layers[layer], name)[0]
                        torch.testing.assert_close(whole[number, :, width - len(row) :], alone, atol=1e-5, rtol=1e-4)
