from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from horen.memory import Codebook, Gate
from horen.memory.search import sketch
from horen.memory.search.sketch import SeenKeys, Sketch, supported
from support.reference import unit

pytestmark = pytest.mark.skipif(not supported(), reason="this processor does not multiply bytes fast")


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 40), st.sampled_from([2, 5, 64, 700]))
def test_products_err_by_no_more_than_they_say(seed: int, queries: int, keys: int, dimension: int):
    query, stored = unit(queries, seed, dimension), unit(keys, seed + 1, dimension)
    taken = Sketch(dimension).take(stored)
    asked = taken.asked(query)
    rough = asked.products(slice(0, keys)).double()
    assert ((rough - query.double() @ stored.double().T).abs() <= asked.error + 1e-6).all()
    assert asked.error.amax() < 0.05


@given(st.integers(0, 1000), st.floats(0, 1), st.sampled_from([2, 5, 64]))
def test_what_was_seen_errs_by_no_more_than_it_says(seed: int, share: float, dimension: int):
    before, stored = unit(6, seed, dimension), unit(40, seed + 1, dimension)
    after = torch.nn.functional.normalize(torch.lerp(before, stored[:6], share), dim=-1)
    asked = SeenKeys(before, before @ stored.T).asked(after)
    found = asked.products(slice(3, 40))
    assert ((found - after @ stored[3:].T).abs() <= asked.error + 1e-6).all()
    assert share > 0 or asked.error.amax() < 1e-3


def test_it_takes_in_what_is_new_alone(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    convert = sketch.to_integers
    monkeypatch.setattr(sketch, "to_integers", lambda rows: seen.append(len(rows)) or convert(rows))
    keys, own = unit(30, 1, 16), Sketch(16)
    parts = [own.take(keys[:count]) for count in (10, 12, 12, 30, 5)]
    assert seen == [10, 2, 18]
    whole = Sketch(16).take(keys)
    assert [len(part.scales) for part in parts] == [10, 12, 12, 30, 5]
    for part in parts:
        assert torch.equal(part.integers, whole.integers[: len(part.scales)])
        assert torch.equal(part.scales, whole.scales[: len(part.scales)])
    assert own.nbytes == 30 * (16 + 4)


def test_one_begun_in_inference_mode_goes_on_outside_it():
    keys, own = unit(30, 1, 16), Sketch(16)
    with torch.inference_mode():
        own.take(keys[:10])
    assert torch.equal(own.take(keys).integers, Sketch(16).take(keys).integers)


def test_a_key_of_zeros_is_no_trouble():
    taken = Sketch(4).take(torch.zeros(2, 4))
    assert taken.integers.tolist() == [[0] * 4] * 2
    assert taken.worst == 0


@pytest.mark.parametrize("steps", [0, 1])
def test_a_codebook_answers_alike_with_it_and_without(monkeypatch: pytest.MonkeyPatch, steps: int):
    keys, queries = unit(300, 1, 16), unit(20, 2, 16)
    gate = Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=steps, contrast=0.4, neighbours=8)
    found = []
    for start in (1, 10_000):
        monkeypatch.setattr(sketch, "FROM", start)
        book = Codebook(16, 2)
        for number in range(100):
            value = book.add_value(torch.zeros(2))
            book.add_entries(keys[3 * number : 3 * number + 3], value)
            if number % 40 == 7:
                book.match(queries, gate)
        book.set_awake(range(20, 40), False)
        book.truncate(entries=270, values=90)
        before = book.match(queries, gate), book.nearest(queries), book.surroundings(queries[0], 5, gate).scores
        book.add_entries(unit(3, 9, 16), book.add_value(torch.zeros(2)))
        found.append((*before, book.match(queries, gate)))
    for one, other in zip(*found, strict=True):
        assert one == other if isinstance(one, list) else torch.equal(one, other)
