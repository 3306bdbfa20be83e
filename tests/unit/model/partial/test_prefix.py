from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from horen.model.partial.precision import Arithmetic
from horen.model.partial.prefix import Prefixes, Stem, Written, _split, stems
from horen.model.past import past_argument
from support.tails import site_of
from support.tiny_models import FAMILIES, HIDDEN, MIXTURES, tiny_model

SHARED = tuple(range(10, 50))
OTHER = tuple(range(60, 100))


def test_rows_that_begin_alike_are_one_group():
    rows = [(*SHARED, 1), (3, 4), (*SHARED, 2, 3), (*OTHER, 5), (*OTHER, 6), ()]
    assert stems(rows) == [Stem(40, (0, 2)), Stem(40, (3, 4)), Stem(0, (1,))]


def test_what_saves_less_than_a_call_is_not_shared():
    rows = [(1, 2, 3, 4, 5), (1, 2, 3, 4, 6)]
    assert stems(rows) == [Stem(0, (0, 1))]
    assert stems(rows * 10) == [Stem(4, (*range(0, 20, 2), *range(1, 20, 2)))]


@pytest.mark.parametrize("other", [7, 200])
def test_a_row_that_would_cost_the_group_more_than_it_brings_stays_out(other: int):
    long = tuple(range(100, 200))
    rows = [(*SHARED, *long, 1), (*SHARED, *long, 2), (*SHARED, other)]
    # joined, three rows would share 40 tokens (80 saved); apart, two share 140
    assert stems(rows) == [Stem(140, (0, 1)), Stem(0, (2,))]


def test_thousands_of_rows():
    rows = [(*SHARED, number) for number in range(5_000)]
    assert stems(rows) == [Stem(40, tuple(range(5_000)))]
    branches = [(*SHARED, *[branch] * 20, number) for branch in range(50) for number in range(50)]
    assert [stem.length for stem in stems(branches)] == [60] * 50


@given(st.lists(st.lists(st.integers(0, 1), max_size=24), max_size=24))
def test_every_row_with_tokens_is_in_one_group_and_begins_as_the_group_does(rows: list[list[int]]):
    groups = stems(rows)
    assert sorted(i for stem in groups for i in stem.rows) == [i for i, row in enumerate(rows) if row]
    for stem in groups:
        assert len({tuple(rows[i][: stem.length]) for i in stem.rows}) == 1
        assert stem.length == 0 or stem.length * (len(stem.rows) - 1) > 32


def cost(groups: Iterable[Sequence[int]]) -> int:
    return sum(len(group) * max(group) + 32 for group in groups)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=9).map(sorted), st.integers(1, 400))
def test_rows_are_read_in_the_groups_that_cost_least(lengths: list[int], room: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("horen.model.partial.prefix._TOKENS_TOGETHER", room)
        found = [list(part) for part in _split(lengths, int)]
    assert [length for part in found for length in part] == lengths

    def fits(group: Sequence[int]) -> bool:
        return len(group) * max(group) <= room or len(group) == 1

    assert all(map(fits, found))
    cuts = itertools.product([False, True], repeat=len(lengths) - 1)
    ways = ([list(part) for part in split_at(lengths, cut)] for cut in cuts)
    assert cost(found) == min(cost(way) for way in ways if all(map(fits, way)))


def split_at(lengths: Sequence[int], cut: Sequence[bool]) -> list[Sequence[int]]:
    places = [0, *(i for i, here in enumerate(cut, 1) if here), len(lengths)]
    return [lengths[first:last] for first, last in pairwise(places)]


def test_rows_of_one_length_are_read_at_once():
    assert [len(part) for part in _split([9] * 100, int)] == [100]
    assert list(_split([], int)) == []


@pytest.mark.parametrize("together", [1, 100])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_each_row_alone(family: str, together: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.model.partial.prefix._TOKENS_TOGETHER", together)
    model = tiny_model(family)
    rows = [(*SHARED, 1), (*SHARED, 2, 3, 4), SHARED, (5,), (), (*OTHER, 6), (*OTHER, 7, 8)]
    with torch.no_grad():
        found = Prefixes(model, rows).states(rows)
        width = max(map(len, rows))
        for number, row in enumerate(rows):
            cache = DynamicCache()
            if row:
                past = {past_argument(model.base_model): cache}
                model.base_model(input_ids=torch.tensor([row]), **past, use_cache=True)
            for layer, states in found.items():
                for name, whole in zip(("keys", "values"), states, strict=True):
                    assert whole.shape[2] == width
                    assert not whole[number, :, : width - len(row)].any()
                    if row:
                        alone = getattr(cache.layers[layer], name)[0]
                        torch.testing.assert_close(whole[number, :, width - len(row) :], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("together", [1, 100])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_that_goes_on_from_a_kept_one(family: str, together: int, monkeypatch: pytest.MonkeyPatch):
    """Also where the beginnings, what follows and the places of values differ in number."""
    monkeypatch.setattr("horen.model.partial.prefix._TOKENS_TOGETHER", together)
    model = tiny_model(family)
    site = site_of(model, kind="state")
    draw = torch.Generator().manual_seed(3)
    values = [torch.randn(HIDDEN, generator=draw) for _ in range(4)]
    first: Written = {SHARED: [(39, values[0])], (5, 6, 7): [(2, values[1])]}
    then: Written = {
        (*SHARED, 1, 2, 3): [(39, values[0]), (40, values[2])],
        (5, 6, 7, 8): [(2, values[1]), (3, values[3])],
        OTHER: [(7, values[2])],
    }
    rows = list(then)
    with torch.no_grad():
        before = Prefixes(model, first, site, first)
        before.states(list(first))
        assert set(before.kept) == set(first)
        whole, plain = (Prefixes(model, rows, site, some).states(rows) for some in (then, {}))
        after = Prefixes(model, rows, site, then, begun=before.kept)
        fed: list[int] = []
        model.base_model.register_forward_pre_hook(
            lambda _module, _args, given: fed.append(given["input_ids"].numel()), with_kwargs=True
        )
        found = after.states(rows)
    # What goes on is three tokens and one, padded to three where they are run together.
    assert sum(fed) == len(OTHER) + (3 + 1 if together == 1 else 2 * 3)
    assert set(after.kept) == set(rows)
    last = max(whole)
    assert not torch.allclose(whole[last][0], plain[last][0], atol=1e-3)
    for layer, states in whole.items():
        for expected, got in zip(states, found[layer], strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rough_states_are_near_and_of_the_models_own_dtype(family: str):
    model = tiny_model(family)
    rows = [(*SHARED, 1), (*SHARED, 2, 3, 4), SHARED, (5,), ()]
    with torch.no_grad():
        ways = (Arithmetic.MODEL, Arithmetic.BFLOAT16)
        exact, rough = (Prefixes(model, rows, reading=way).states(rows) for way in ways)
    changed = False
    for layer, both in exact.items():
        for whole, near in zip(both, rough[layer], strict=True):
            assert near.dtype == torch.float32
            # A router whose scores tie may send a token elsewhere.
            limit = 0.2 if family in MIXTURES else 0.05
            assert float((near - whole).norm()) < limit * float(whole.norm())
            changed = changed or not torch.equal(near, whole)
    assert changed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_read_in_float32_is_nearer_to_float32(family: str, dtype: torch.dtype):
    model = tiny_model(family).requires_grad_(False).to(dtype)
    rows = [(*SHARED, 1), (*SHARED, 2, 3, 4), SHARED, (5,), ()]
    with torch.no_grad():
        own, wide = (Prefixes(model, rows, reading=way).states(rows) for way in (Arithmetic.MODEL, Arithmetic.FLOAT32))
        exact = Prefixes(copy.deepcopy(model).float(), rows).states(rows)
    assert all(one.dtype == dtype for both in wide.values() for one in both)

    def off(states: dict[int, tuple[Tensor, Tensor]]) -> float:
        pairs = [(got, whole) for n, both in exact.items() for got, whole in zip(states[n], both, strict=True)]
        return max(float((got.float() - whole).norm() / whole.norm()) for got, whole in pairs)

    # A router whose scores tie may send a token elsewhere.
    assert off(wide) < (0.2 if family in MIXTURES else 0.05)
    assert family in MIXTURES or off(wide) < 1.1 * off(own)


def test_a_beginning_is_run_once_for_all_batches():
    model = tiny_model()
    rows = [(*SHARED, 1, 2), (*SHARED, 3), (*SHARED, 4, 5, 6), *[(1, 2, 3, 4, 5, n) for n in range(9)]]
    fed: list[int] = []
    with torch.no_grad():
        whole = Prefixes(model, rows).states(rows)
        model.base_model.register_forward_pre_hook(
            lambda _module, _args, given: fed.append(given["input_ids"].numel()), with_kwargs=True
        )
        prefixes = Prefixes(model, rows)
        parts = [prefixes.states(rows[:2]), prefixes.states(rows[2:]), prefixes.states(rows[3:])]
    # two rows padded to two tokens after the beginning, then the third's; few tokens are not kept for another batch
    assert sum(fed) == len(SHARED) + 2 * 2 + 3 + 2 * (5 + 9)
    for layer, (keys, _) in whole.items():
        torch.testing.assert_close(parts[0][layer][0], keys[:2, :, -42:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(parts[1][layer][0], keys[2:], atol=1e-5, rtol=1e-4)
