from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory import STEPPED, Codebook, Gate, Match, Packed, Scoring

KEY, VALUE = 6, 4
OPTIONS = {"threshold": 0.5, "alpha": 0.2, "beta": 12.0, "steps": 2, "epsilon": 1e-5}


def unit(count: int, seed: int) -> Tensor:
    return normalize(torch.randn(count, KEY, generator=torch.Generator().manual_seed(seed)), dim=-1)


def filled(counts: list[int], seed: int = 0) -> Codebook:
    """One value and so many entries an edit."""
    codebook = Codebook(KEY, VALUE)
    generator = torch.Generator().manual_seed(seed + 1)
    for number, count in enumerate(counts):
        value = codebook.add_value(torch.randn(VALUE, generator=generator))
        codebook.add_entries(unit(count, seed + 2 + number), value)
    return codebook


def matches(codebook: Codebook, queries: Tensor) -> list[Match]:
    return codebook.match(queries, Gate(**OPTIONS))


def test_a_new_codebook_is_empty():
    codebook = Codebook(KEY, VALUE)
    assert len(codebook) == codebook.entries == 0
    assert codebook.keys.shape == (0, KEY)
    assert codebook.values.shape == (0, VALUE)
    assert codebook.match(unit(3, 0), Gate(**OPTIONS)) == []
    assert codebook.nearest(unit(3, 0)) is None


def test_numbers_count_up():
    codebook = Codebook(KEY, VALUE)
    assert codebook.add_value(torch.zeros(VALUE)) == 0
    assert codebook.add_entries(unit(3, 0), 0) == range(3)
    assert codebook.add_value(torch.ones(VALUE)) == 1
    assert codebook.add_entries(unit(2, 1), 1) == range(3, 5)
    assert codebook.value_of.tolist() == [0, 0, 0, 1, 1]
    assert len(codebook) == codebook.entries == 5


@given(st.lists(st.integers(1, 90), min_size=1, max_size=6))
def test_growth_keeps_earlier_rows_bit_for_bit(counts: list[int]):
    codebook = Codebook(KEY, VALUE)
    expected_keys, expected_values = [], []
    for number, count in enumerate(counts):
        key, value = unit(count, number), torch.full((VALUE,), 0.1 * number)
        expected_keys.append(key)
        expected_values.append(value)
        codebook.add_entries(key, codebook.add_value(value))
        assert torch.equal(codebook.keys, torch.cat(expected_keys))
        assert torch.equal(codebook.values, torch.stack(expected_values))
    assert codebook.entries == sum(counts)
    assert codebook.value_of.tolist() == [i for i, count in enumerate(counts) for _ in range(count)]


def test_what_is_stored_does_not_change_with_the_tensor_that_was_given():
    codebook, key, value = Codebook(KEY, VALUE), unit(1, 0), torch.ones(VALUE)
    kept = key.clone()
    codebook.add_entries(key, codebook.add_value(value))
    key.zero_()
    value.zero_()
    assert torch.equal(codebook.keys, kept)
    assert torch.equal(codebook.values, torch.ones(1, VALUE))


def test_match_finds_the_entry_and_its_value():
    codebook = filled([2, 1, 3])
    for entry, match in enumerate(matches(codebook, codebook.keys.clone())):
        assert match.entry == entry
        assert match.value == int(codebook.value_of[entry])
        assert match.raw_similarity == pytest.approx(1.0, abs=1e-5)
        assert match.fired
        assert match.runner_up is not None
        assert codebook.value_of[match.runner_up] != match.value
        assert match.runner_up_similarity is not None
        assert match.runner_up_similarity <= match.similarity


def test_a_lone_value_has_no_runner_up():
    found = matches(filled([3]), unit(2, 9))
    assert [match.runner_up for match in found] == [None, None]
    assert [match.runner_up_similarity for match in found] == [None, None]


def test_the_threshold_must_be_exceeded():
    codebook = Codebook(2, VALUE)
    codebook.add_entries(torch.tensor([[1.0, 0.0]]), codebook.add_value(torch.zeros(VALUE)))
    query = torch.tensor([[0.5, 0.75**0.5]])
    options = {"alpha": 0.0, "beta": 1.0, "steps": 0, "epsilon": 0.0}
    assert not codebook.match(query, Gate(threshold=0.5, **options))[0].fired
    assert codebook.match(query, Gate(threshold=0.499, **options))[0].fired


@given(st.sets(st.integers(0, 5)), st.integers(0, 50))
def test_sleep_and_waking_restore_every_match(asleep: set[int], seed: int):
    codebook, queries = filled([2, 1, 3], seed), unit(5, seed + 77)
    before, keys, values = matches(codebook, queries), codebook.keys.clone(), codebook.values.clone()
    codebook.set_awake(asleep, False)
    assert len(codebook) == 6 - len(asleep)
    assert codebook.entries == 6
    found = matches(codebook, queries)
    assert not {match.entry for match in found} & asleep
    assert not {match.runner_up for match in found} & asleep
    if len(asleep) < 6:
        assert not {entry for entry, _ in codebook.nearest(queries) or []} & asleep
    else:
        assert found == []
        assert codebook.nearest(queries) is None
    codebook.set_awake(asleep, True)
    assert matches(codebook, queries) == before
    assert len(codebook) == 6
    assert torch.equal(codebook.keys, keys)
    assert torch.equal(codebook.values, values)


def test_setting_twice_counts_once():
    codebook = filled([4])
    codebook.set_awake([1, 2], False)
    codebook.set_awake([2, 3], False)
    assert len(codebook) == 1
    codebook.set_awake([1, 1, 1], True)
    assert len(codebook) == 2
    codebook.set_awake([], False)
    codebook.set_awake((entry for entry in (0,)), False)
    assert len(codebook) == 1


def test_new_entries_are_awake_while_others_sleep():
    codebook = filled([2])
    codebook.set_awake([0, 1], False)
    codebook.add_entries(unit(1, 5), codebook.add_value(torch.zeros(VALUE)))
    assert len(codebook) == 1
    assert {match.entry for match in matches(codebook, unit(4, 6))} == {2}


@given(st.integers(0, 6), st.sets(st.integers(0, 5)))
def test_truncate_forgets_the_end_alone(entries: int, asleep: set[int]):
    codebook = filled([1] * 6)
    keys, values = codebook.keys.clone(), codebook.values.clone()
    codebook.set_awake(asleep, False)
    codebook.truncate(entries=entries, values=entries)
    assert codebook.entries == entries
    assert len(codebook) == len(set(range(entries)) - asleep)
    assert torch.equal(codebook.keys, keys[:entries])
    assert torch.equal(codebook.values, values[:entries])
    assert codebook.value_of.tolist() == list(range(entries))


def test_after_truncation_insertion_goes_on():
    codebook = filled([2, 2])
    keys = codebook.keys.clone()
    codebook.truncate(entries=2, values=1)
    fresh = unit(3, 40)
    assert codebook.add_value(torch.ones(VALUE)) == 1
    assert codebook.add_entries(fresh, 1) == range(2, 5)
    assert torch.equal(codebook.keys, torch.cat([keys[:2], fresh]))
    assert len(codebook) == 5


def test_fill_takes_over_saved_tables():
    saved = filled([2, 1, 3])
    codebook = Codebook(KEY, VALUE)
    codebook.fill(saved.keys, saved.packed, saved.value_of)
    assert torch.equal(codebook.keys, saved.keys)
    assert torch.equal(codebook.values, saved.values)
    assert torch.equal(codebook.value_of, saved.value_of)
    assert len(codebook) == 6
    assert matches(codebook, unit(4, 3)) == matches(saved, unit(4, 3))


def test_fill_with_nothing():
    codebook = Codebook(KEY, VALUE)
    codebook.fill(torch.zeros(0, KEY), Packed.of(torch.zeros(0, VALUE)), torch.zeros(0, dtype=torch.int64))
    assert len(codebook) == 0


@pytest.mark.parametrize(
    ("keys", "values", "value_of"),
    [
        (torch.zeros(2, KEY), torch.zeros(1, VALUE), [0]),
        (torch.zeros(2, KEY), torch.zeros(1, VALUE), [0, 1]),
        (torch.zeros(2, KEY), torch.zeros(1, VALUE), [0, -1]),
        (torch.zeros(1, KEY), torch.zeros(0, VALUE), [0]),
        (torch.zeros(1, KEY + 1), torch.zeros(1, VALUE), [0]),
        (torch.zeros(1, KEY), torch.zeros(1, VALUE + 1), [0]),
    ],
    ids=["fewer numbers", "number too high", "negative number", "no values", "wide keys", "wide values"],
)
def test_fill_refuses_what_does_not_fit(keys: Tensor, values: Tensor, value_of: list[int]):
    codebook = Codebook(KEY, VALUE)
    with pytest.raises(RuntimeError):
        codebook.fill(keys, Packed.of(values), torch.tensor(value_of))


@given(st.integers(0, 50))
def test_nearest_is_brute_force(seed: int):
    codebook, queries = filled([2, 1, 3], seed), unit(4, seed + 5)
    codebook.set_awake([1, 4], False)
    cosines = queries @ codebook.keys.T
    for row, (entry, similarity) in enumerate(codebook.nearest(queries) or []):
        awake = {i: float(cosines[row, i]) for i in (0, 2, 3, 5)}
        assert awake[entry] == pytest.approx(max(awake.values()), abs=1e-6)
        assert similarity == pytest.approx(max(awake.values()), abs=1e-6)


def test_moving_keeps_everything():
    codebook = filled([2, 2])
    codebook.set_awake([1], False)
    before = matches(codebook, unit(3, 0))
    codebook.to(torch.device("cpu"))
    assert matches(codebook, unit(3, 0)) == before
    assert len(codebook) == 3


def test_contrast_lowers_the_score_by_the_crowd_and_leaves_the_similarity():
    codebook = Codebook(2, VALUE)
    for cosine in (0.9, 0.7, 0.5):
        value = codebook.add_value(torch.zeros(VALUE))
        codebook.add_entries(torch.tensor([[cosine, (1 - cosine**2) ** 0.5]]), value)
    query = torch.tensor([[1.0, 0.0]])
    options = OPTIONS | {"alpha": 0.0, "threshold": 0.6, "neighbours": 2}
    plain = codebook.match(query, Gate(**options))[0]
    assert (plain.score, plain.fired) == (plain.similarity, True)
    contrasted = codebook.match(query, Gate(contrast=0.5, **options))[0]
    assert contrasted.similarity == plain.similarity == pytest.approx(0.9)
    assert contrasted.score == pytest.approx(0.9 - 0.5 * (0.7 + 0.5) / 2)
    assert not contrasted.fired
    assert codebook.match(query, Gate(contrast=0.4, **options))[0].fired


def test_a_query_that_two_values_claim_alike_wakes_neither_within_the_margin():
    codebook = Codebook(2, VALUE)
    for cosine in (0.9, 0.9, 0.7):
        # The first two share a value and so are no rivals.
        value = codebook.add_value(torch.zeros(VALUE)) if codebook.entries != 1 else 0
        codebook.add_entries(torch.tensor([[cosine, (1 - cosine**2) ** 0.5]]), value)
    query = torch.tensor([[1.0, 0.0]])
    options = OPTIONS | {"alpha": 0.0}
    for margin, fires in ((0.0, True), (0.19, True), (0.21, False)):
        assert codebook.match(query, Gate(margin=margin, **options))[0].fired is fires
    codebook.set_awake([2], False)
    assert codebook.match(query, Gate(margin=2.0, **options))[0].fired


@given(
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    margins=st.tuples(st.floats(0, 2), st.floats(0, 2)),
)
def test_a_greater_margin_never_fires_more_and_none_changes_nothing(
    counts: list[int], seed: int, margins: tuple[float, float]
):
    codebook, queries = filled(counts, seed), unit(8, seed + 50)
    options = OPTIONS | {"threshold": 0.2}
    less, more = (codebook.match(queries, Gate(margin=margin, **options)) for margin in sorted(margins))
    for narrow, wide in zip(less, more, strict=True):
        assert narrow.fired or not wide.fired
        assert (narrow.entry, narrow.score, narrow.similarity) == (wide.entry, wide.score, wide.similarity)
    plain = codebook.match(queries, Gate(**options))
    assert [match.fired for match in plain] == [match.score > 0.2 for match in plain]
    assert codebook.match(queries, Gate(margin=0.0, **options)) == plain


@given(st.integers(0, 50), st.sampled_from([0.0, 0.4]), st.integers(1, 4), st.sets(st.integers(0, 5), max_size=4))
def test_surroundings_tell_what_match_decides(seed: int, contrast: float, neighbours: int, asleep: set[int]):
    codebook, queries = filled([2, 1, 3], seed), unit(4, seed + 99)
    codebook.set_awake(asleep, False)
    gate = Gate(**OPTIONS, contrast=contrast, neighbours=neighbours)
    found = codebook.match(queries, gate)
    for query, match in zip(queries, found, strict=True):
        around = codebook.surroundings(query, 10, gate)
        assert sorted(around.entries.tolist()) == sorted({0, 1, 2, 3, 4, 5} - asleep)
        assert around.similarities.shape == (3, 6 - len(asleep))
        assert around.similarities[-1].tolist() == sorted(around.similarities[-1].tolist(), reverse=True)
        assert int(around.entries[0]) == match.entry
        assert float(around.similarities[0, 0]) == pytest.approx(match.raw_similarity, abs=1e-6)
        assert float(around.similarities[-1, 0]) == pytest.approx(match.similarity, abs=1e-6)
        assert float(around.scores[0]) == pytest.approx(match.score, abs=1e-6)
        torch.testing.assert_close(around.path @ codebook.keys[around.entries].T, around.similarities)


@given(st.integers(0, 50), st.sets(st.integers(0, 59), max_size=20))
def test_surroundings_of_the_nearest_are_what_candidates_are_taken_by(seed: int, asleep: set[int]):
    codebook, queries = filled([1] * 60, seed), unit(3, seed + 99)
    codebook.set_awake(asleep, False)
    gate = Scoring(alpha=0.6, beta=2.0, steps=2, epsilon=0.0)
    found = codebook.candidates(queries, gate, 5)
    assert found is not None
    differs = False
    for row, query in enumerate(queries):
        around = codebook.surroundings(query, 60, gate, among=STEPPED)
        places = [around.entries.tolist().index(entry) for entry in found[0].entries[row].tolist()]
        torch.testing.assert_close(around.similarities[-1, places], found[0].similarity[row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(around.similarities[0, places], found[0].raw_similarity[row], atol=1e-5, rtol=1e-5)
        every = codebook.surroundings(query, 60, gate)
        differs |= not torch.allclose(every.path, around.path, atol=1e-4)
    assert differs


def test_surroundings_score_every_entry_against_its_own_crowd():
    codebook = Codebook(2, VALUE)
    cosines = torch.tensor([0.9, 0.8, 0.6])
    keys = torch.stack([cosines, (1 - cosines.square()).sqrt()], dim=-1)
    for key in keys:
        codebook.add_entries(key[None], codebook.add_value(torch.zeros(VALUE)))
    still = {"alpha": 0.0, "beta": 1.0, "steps": 0, "epsilon": 0.0}
    around = codebook.surroundings(torch.tensor([1.0, 0.0]), 2, Scoring(contrast=0.5, neighbours=2, **still))
    assert around.entries.tolist() == [0, 1]
    assert around.crowds.tolist() == pytest.approx([0.7, 0.75])
    assert around.scores.tolist() == pytest.approx([0.9 - 0.35, 0.8 - 0.375])


def test_of_equal_entries_surroundings_begin_with_the_one_that_match_takes():
    codebook, query = Codebook(KEY, VALUE), unit(1, 3)[0]
    for _ in range(40):
        codebook.add_entries(query[None], codebook.add_value(torch.zeros(VALUE)))
    gate = Gate(threshold=0.5, alpha=0.0, beta=1.0, steps=0, epsilon=0.0)
    winner = codebook.match(query[None], gate)[0].entry
    assert codebook.surroundings(query, 1, gate).entries.tolist() == [winner]


def test_nothing_is_around_a_query_in_an_empty_codebook():
    with pytest.raises(ValueError, match="empty"):
        Codebook(KEY, VALUE).surroundings(unit(1, 0)[0], 1, Scoring(alpha=0.1, beta=1.0, steps=1, epsilon=0.0))


@given(
    st.integers(0, 50),
    st.sampled_from([0.0, 0.1, 0.4, 0.5, 1.0]),
    st.integers(0, 3),
    st.floats(-1.1, 1.1),
    st.sampled_from([0.0, 0.4]),
)
def test_waking_is_match_for_all_that_fire(seed: int, alpha: float, steps: int, threshold: float, contrast: float):
    codebook, queries = filled([2, 1, 3, 1], seed), unit(12, seed + 9)
    codebook.set_awake([1], False)
    gate = Gate(**OPTIONS | {"alpha": alpha, "steps": steps, "threshold": threshold}, contrast=contrast, neighbours=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("horen.memory.search.sketch.FROM", 1)
        found = codebook.waking(queries, gate)
    for match, waking in zip(codebook.match(queries, gate), found, strict=True):
        assert waking is not None or not match.fired
        if waking is not None:
            assert (waking.entry, waking.fired) == (match.entry, match.fired)
            assert waking.score == pytest.approx(match.score, abs=1e-5)


@given(st.integers(0, 50), st.floats(-1.1, 1.1), st.sampled_from([0.0, 0.4]))
def test_waking_is_match_for_all_that_score_more_than_is_asked(seed: int, above: float, contrast: float):
    codebook, queries = filled([2, 1, 3, 1], seed), unit(12, seed + 9)
    gate = Gate(**OPTIONS | {"alpha": 0.1, "steps": 1, "threshold": 0.5}, contrast=contrast, neighbours=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("horen.memory.search.sketch.FROM", 1)
        found = codebook.waking(queries, gate, above=above)
    for match, waking in zip(codebook.match(queries, gate), found, strict=True):
        assert waking is not None or match.score <= above
        if waking is not None:
            assert (waking.entry, waking.fired) == (match.entry, match.fired)


def test_waking_takes_no_steps_for_what_is_far_from_every_entry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.memory.search.sketch.FROM", 1)
    codebook, gate = Codebook(2, VALUE), Gate(**OPTIONS | {"alpha": 0.1, "steps": 1})
    assert codebook.waking(torch.tensor([[1.0, 0.0]]), gate) == [None]
    codebook.add_entries(torch.tensor([[1.0, 0.0]]), codebook.add_value(torch.zeros(VALUE)))
    far, near = torch.tensor([0.3, 0.91**0.5]), torch.tensor([0.8, 0.6])
    found = codebook.waking(torch.stack([far, near, far]), gate)
    assert [match is None for match in found] == [True, False, True]
