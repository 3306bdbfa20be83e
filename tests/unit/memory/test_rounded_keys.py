"""Keys stored as integers: what is stored is the key, and every look-up is one among the rounded keys."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.memory import Codebook, Gate, KeyStorage, hopfield_step
from horen.memory.keys import KeyTable, scales_of
from horen.memory.recall import about
from horen.memory.search import sketch
from support.reference import as_integers, clustered, unit

CPU = torch.device("cpu")
INT8 = KeyStorage("int8")
sizes = st.sampled_from([1, 2, 5, 24, 384, 1100])


@given(st.integers(0, 1000), sizes)
def test_a_rounded_key_is_a_unit_vector_near_the_key(seed: int, size: int):
    keys = unit(20, seed, size)
    rounded = INT8.rounded(keys)
    assert rounded.dtype == torch.float32
    assert (rounded.double().norm(dim=-1) - 1).abs().max() < 3e-7
    # Half a step for each number, and as much again for the length of it all.
    step = keys.double().abs().amax(-1) / 127
    assert ((rounded.double() - keys.double()).norm(dim=-1) <= step * size**0.5 + 1e-6).all()


@given(st.integers(0, 1000), sizes)
def test_what_was_read_is_stored_as_the_very_same_integers(seed: int, size: int):
    numbers = INT8.pack(unit(20, seed, size))
    read = INT8.read(numbers)
    assert torch.equal(INT8.pack(read), numbers)
    assert torch.equal(INT8.rounded(read), read)
    assert numbers.abs().amax() == 127


@given(st.integers(0, 1000), sizes)
def test_a_key_has_the_same_bits_whatever_it_is_read_with(seed: int, size: int):
    keys = unit(30, seed, size)
    stored, each = as_integers(keys), torch.cat([INT8.rounded(key[None]) for key in keys])
    assert torch.equal(stored[:], each)
    assert torch.equal(stored[3:11], each[3:11])
    assert torch.equal(stored[::7], each[::7])
    places = torch.tensor([[4, 4], [29, 0]])
    assert torch.equal(stored[places], each[places])
    assert torch.equal(stored[torch.arange(30) % 3 == 0], each[::3])
    assert (stored.shape, len(stored), stored.dtype, stored.device) == (each.shape, 30, each.dtype, each.device)
    assert stored.nbytes == 30 * (size + 4)


@pytest.mark.parametrize("dimension", [3, 1023, 1024, 4097])
def test_lengths_are_those_of_whole_numbers(dimension: int):
    """However many there are: sums of floats would be rounded where there are more than some."""
    numbers = torch.randint(-128, 128, (64, dimension), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    numbers[0], numbers[1, 1:] = -128, 127
    wanted = numbers.to(torch.int64).square().sum(-1).clamp_min(1).float().sqrt().reciprocal()
    assert torch.equal(scales_of(numbers), wanted)


def test_scales_are_measured_in_parts_to_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    numbers = INT8.pack(unit(30, 0, 24))
    whole = scales_of(numbers)
    monkeypatch.setattr("horen.memory.keys._ROWS", 7)
    assert torch.equal(scales_of(numbers), whole)
    assert torch.equal(scales_of(numbers[:0]), whole[:0])


def test_float32_is_stored_as_it_is():
    keys, storage = unit(3, 0, 8), KeyStorage()
    assert storage.pack(keys) is storage.rounded(keys) is keys
    assert torch.equal(storage.read(keys), keys)


def test_zeros_are_no_trouble():
    assert torch.equal(INT8.rounded(torch.zeros(2, 5)), torch.zeros(2, 5))


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_what_is_no_number_stays_none(number: float):
    keys = unit(3, 0, 8)
    keys[1, 2] = number
    assert INT8.rounded(keys).isnan().any(-1).tolist() == [False, True, False]
    assert torch.equal(INT8.rounded(keys)[[0, 2]], INT8.rounded(keys[[0, 2]]))


def test_a_table_grows_and_forgets_and_is_not_confused_by_what_an_interruption_left():
    keys, table = unit(200, 0, 16), KeyTable(16, INT8, CPU)
    table.append(keys[:100])
    table._scales.append(torch.ones(3))
    before = table.rows
    table.append(keys[100:150])
    table.truncate(120)
    table.append(keys[120:])
    assert torch.equal(table.rows[:], INT8.rounded(keys))
    assert torch.equal(before[:], INT8.rounded(keys[:100]))
    other = KeyTable(16, INT8, CPU)
    other.adopt(table.numbers)
    assert other.numbers.data_ptr() == table.numbers.data_ptr()
    other.append(keys[:1])
    assert torch.equal(other.rows[:], INT8.rounded(torch.cat([keys, keys[:1]])))


@pytest.mark.parametrize(("storage", "numbers"), [(INT8, torch.zeros(2, 4)), (KeyStorage(), torch.zeros(2, 4).char())])
def test_keys_of_another_storage_are_refused(storage: KeyStorage, numbers: Tensor):
    with pytest.raises(RuntimeError, match=f"the keys are not stored as {storage.name}"):
        KeyTable(4, storage, CPU).adopt(numbers)


def books(keys: Tensor, asleep: list[int] | None = None) -> tuple[Codebook, Codebook]:
    """A codebook that stores keys as integers, and one that stores what these stand for in float32."""
    size, made = keys.shape[1], []
    for storage, rows in ((INT8, keys), (KeyStorage(), INT8.rounded(keys))):
        book = Codebook(size, 1, key_storage=storage)
        with book.together():
            for number in range(0, len(rows), 2):
                book.add_entries(rows[number : number + 2], book.add_value(torch.zeros(1)))
        book.set_awake(asleep or [], False)
        made.append(book)
    return made[0], made[1]


@pytest.mark.parametrize("count", [300, 17_000], ids=["few", "so many that they are searched as integers"])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_every_look_up_is_one_among_the_rounded_keys(count: int, steps: int):
    keys = clustered(count, 0, 32, clusters=60, spread=0.7)
    keys[count // 2 : count // 2 + 20] = keys[:20]
    one, two = books(keys, [*range(0, count, 5)])
    queries = about(keys[:100], 12)
    gate = Gate(threshold=0.6, contrast=0.4, neighbours=4, alpha=0.1, beta=20.0, steps=steps)
    close = {"atol": 3e-6, "rtol": 0}
    for found, expected in zip(one.match(queries, gate), two.match(queries, gate), strict=True):
        named = ("entry", "value", "fired", "runner_up")
        assert [asdict(found)[name] for name in named] == [asdict(expected)[name] for name in named]
        assert found.similarity == pytest.approx(expected.similarity, abs=3e-6)
        assert found.score == pytest.approx(expected.score, abs=3e-6)
    assert one.nearest(queries) == two.nearest(queries)
    near, other = one.candidates(queries, gate, 9), two.candidates(queries, gate, 9)
    assert near is not None
    assert other is not None
    for part, expected_part in zip(vars(near[0]).values(), vars(other[0]).values(), strict=True):
        torch.testing.assert_close(part, expected_part, **close)
    around, expected_around = (book.surroundings(queries[0], 9, gate) for book in (one, two))
    assert torch.equal(around.entries, expected_around.entries)
    torch.testing.assert_close(around.crowds, expected_around.crowds, **close)
    woken, others = (book.waking(queries, gate, prompts=torch.arange(12)) for book in (one, two))
    assert [m and m.fired and m.entry for m in woken] == [m and m.fired and m.entry for m in others]


def test_no_copy_is_made_of_keys_that_are_integers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sketch, "FROM", 1)
    one, two = books(unit(40, 0, 16))
    for book in (one, two):
        book.nearest(unit(3, 1, 16))
    copies = one._stand.copies
    if copies is None or not sketch.supported():
        pytest.skip("this processor does not multiply bytes fast")
    seen = one._stand.sketched()
    assert isinstance(seen, sketch.SketchedKeys)
    assert seen.integers.data_ptr() == one.keys.data_ptr()
    assert copies._sketch.nbytes == 0  # type: ignore[attr-defined]
    assert two._stand.copies._sketch.nbytes == 40 * (16 + 4)  # type: ignore[union-attr]


@pytest.mark.skipif(not sketch.supported(), reason="this processor does not multiply bytes fast")
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 40), st.sampled_from([2, 5, 64, 700]))
def test_products_of_integers_err_by_no_more_than_they_say(seed: int, queries: int, keys: int, dimension: int):
    query, stored = unit(queries, seed, dimension), as_integers(unit(keys, seed + 1, dimension))
    asked = sketch.SketchedKeys.stored(stored).asked(query)
    rough = asked.products(slice(0, keys)).double()
    assert ((rough - query.double() @ stored[:].double().T).abs() <= asked.error + 1e-6).all()


def test_a_codebook_reads_its_keys_in_float32_and_counts_their_bytes():
    keys = unit(6, 0, 16)
    book, _ = books(keys)
    assert book.keys.dtype == torch.int8
    assert torch.equal(book.read_keys([5, 0]), INT8.rounded(keys)[[5, 0]])
    assert torch.equal(book.read_keys(torch.tensor([1])), INT8.rounded(keys)[1:2])
    assert book.nbytes == 6 * (16 + 8) + 3 * 4
    other = Codebook(16, 1, key_storage=INT8)
    other.fill(book.keys, book.packed, book.value_of)
    assert torch.equal(other.read_keys(range(6)), INT8.rounded(keys))
    assert other.keys.data_ptr() == book.keys.data_ptr()
    other.to(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="the keys are not stored as float32"):
        Codebook(16, 1).fill(book.keys, book.packed, book.value_of)


def test_a_step_weighs_the_rounded_keys():
    stored, queries = as_integers(clustered(300, 0, 24)), unit(4, 1, 24)
    found, expected = (hopfield_step(queries, keys, alpha=0.3, beta=20.0) for keys in (stored, stored[:]))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=2e-6, rtol=0)
