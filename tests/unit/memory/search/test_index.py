"""The codes that propose candidates: what they find, what they never give, and how they grow beside their readers."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.memory import Codebook, Gate
from horen.memory.recall import about
from horen.memory.search import index, sketch
from horen.memory.search import nearest as search
from horen.memory.search.index import Index, IndexedKeys
from horen.memory.search.nearest import ranking
from support.reference import clustered, unit

pytest.importorskip("faiss")

DIMENSION = 24
GATE = Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=0, contrast=0.4, neighbours=4)
# Nearly all that is stored in these tests.
MANY = 100


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let codes begin with few keys and lag behind by few."""
    monkeypatch.setattr(index, "FROM", 40)
    monkeypatch.setattr(index, "BESIDE", 10)


def indexed(keys: Tensor, *, beside: int = 0) -> IndexedKeys:
    """An index that lacks the last keys."""
    made = Index(keys.shape[1], MANY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "BESIDE", 0)
        length = made.take(keys[: max(1, len(keys) - beside)])
    return IndexedKeys(made, length, lambda: None)


def filled(keys: Tensor, *, candidates: int | None = MANY, entries_a_value: int = 1) -> Codebook:
    book = Codebook(keys.shape[1], 1)
    if candidates is not None:
        book.use(Index(keys.shape[1], candidates))
    for start in range(0, len(keys), entries_a_value):
        book.add_entries(keys[start : start + entries_a_value], book.add_value(torch.tensor([float(start)])))
    return book


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many candidates are asked for from now on."""
    asked: list[int] = []
    propose = Index.propose
    monkeypatch.setattr(
        Index, "propose", lambda own, queries, count: asked.append(count) or propose(own, queries, count)
    )
    return asked


@given(
    seed=st.integers(0, 1000),
    count=st.integers(40, 150),
    wanted=st.integers(1, 160),
    beside=st.integers(0, 20),
    asleep=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_what_is_ranked_is_awake_and_has_its_true_score(seed: int, count: int, wanted: int, beside: int, asleep: float):
    keys, queries = clustered(count, seed, DIMENSION, spread=0.4), clustered(3, seed, DIMENSION, spread=0.6)
    awake = torch.rand(count, generator=torch.Generator().manual_seed(seed)) >= asleep
    awake[seed % count] = True
    found = ranking(queries, keys, wanted, awake=awake, index=indexed(keys, beside=beside))
    for row in range(len(queries)):
        known = min(int(found.known[row]), int(awake.sum()), found.index.shape[1])
        entries = found.index[row, :known]
        assert awake[entries].all()
        assert len(set(entries.tolist())) == known
        scores = (keys[entries] * queries[row]).sum(-1).clamp(max=1)
        torch.testing.assert_close(found.similarity[row, :known], scores)
        assert (scores.diff() <= 1e-6).all()
        assert found.similarity[row, known:].isneginf().all() or wanted >= count


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("count", [30, 90, 300])
def test_with_many_candidates_it_answers_as_the_exact_search(monkeypatch: pytest.MonkeyPatch, count: int, steps: int):
    monkeypatch.setattr(sketch, "FROM", 1)
    keys, queries = clustered(count, 1, DIMENSION, spread=0.4), clustered(12, 1, DIMENSION, spread=0.6)
    gate = Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=steps, contrast=0.4, neighbours=4)
    one, other = filled(keys, entries_a_value=3), filled(keys, candidates=None, entries_a_value=3)
    asked = counted(monkeypatch)
    for _ in range(2):
        assert one.match(queries, gate) == other.match(queries, gate)
        assert one.waking(queries, gate) == other.waking(queries, gate)
        assert one.nearest(queries) == other.nearest(queries)
        around = one.surroundings(queries[0], 7, gate), other.surroundings(queries[0], 7, gate)
        assert torch.equal(around[0].entries, around[1].entries)
        assert torch.equal(around[0].scores, around[1].scores)
        for book in (one, other):
            book.set_awake(range(0, count, 4), False)
    assert bool(asked) == (count == 300)


def test_what_was_added_is_found_at_once_and_coded_with_others(monkeypatch: pytest.MonkeyPatch):
    keys, coded = unit(150, 1, DIMENSION), []
    made = Index(DIMENSION, 5)
    rows = Index._rows
    monkeypatch.setattr(Index, "_rows", lambda own, some: coded.append(len(some)) or rows(own, some))
    lengths = []
    for count in range(60, 151):
        found = ranking(
            keys[count - 1 : count], keys[:count], 1, index=IndexedKeys(made, made.take(keys[:count]), lambda: None)
        )
        assert found.index.tolist()[0][0] == count - 1
        lengths.append(made.take(keys[:count]))
    assert lengths == sorted(lengths)
    assert all(0 <= count - length <= 10 for count, length in zip(range(60, 151), lengths, strict=True))
    # Fitted and coded at 60, coded to 115, and all anew when the keys had doubled.
    assert [some for some in coded if some > 1] == [60, 60, 11, 11, 11, 11, 11, 126, 126, 11, 11]
    assert made.take(keys[:70]) == 70
    assert made.nbytes == 148 * 32


def test_removed_entries_are_never_given_and_come_back():
    keys = unit(200, 1, DIMENSION)
    book = filled(keys)
    book.set_awake(range(100), False)
    assert min(match.entry for match in book.match(keys, GATE)) >= 100
    assert min(match.runner_up or 0 for match in book.match(keys, GATE)) >= 100
    book.set_awake(range(199), False)
    assert {match.entry for match in book.match(keys, GATE)} == {199}
    book.set_awake(range(199), True)
    assert [match.entry for match in book.match(keys, GATE)] == list(range(200))


def test_what_was_forgotten_is_gone_and_others_take_its_numbers():
    keys, others = unit(100, 1, DIMENSION), unit(60, 2, DIMENSION)
    book = filled(keys, candidates=5)
    assert [match.entry for match in book.match(keys, GATE)] == list(range(100))
    book.truncate(entries=60, values=60)
    assert max(match.entry for match in book.match(keys, GATE)) < 60
    book.add_entries(others, book.add_value(torch.zeros(1)))
    assert [match.entry for match in book.match(others, GATE)] == list(range(60, 120))
    assert [match.entry for match in book.match(keys[:60], GATE)] == list(range(60))
    assert not any(match.similarity > 0.99 for match in book.match(keys[60:], GATE))


def test_an_entry_among_many_sleeping_ones_is_found(monkeypatch: pytest.MonkeyPatch):
    """A fact that was superseded again and again: all proposals sleep, and the search goes on without the codes."""
    monkeypatch.setattr(search, "MOST", 64)
    key = unit(1, 5, DIMENSION)
    book = filled(torch.cat([unit(100, 1, DIMENSION), key.expand(150, -1)]), candidates=16)
    book.set_awake(range(100, 249), False)
    asked = counted(monkeypatch)
    assert book.match(key, GATE)[0].entry == 249
    assert asked == [20]


def test_what_an_interruption_leaves_half_done_is_done_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "_TOGETHER", 16)
    keys, made, calls = unit(80, 1, DIMENSION), Index(DIMENSION, 5), []
    rows = Index._rows

    def interrupted(own: Index, some: Tensor) -> Any:
        calls.append(len(some))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rows(own, some)

    monkeypatch.setattr(Index, "_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.take(keys)
    assert made.take(keys) == 80
    assert made.propose(keys, 3)[:, 0].tolist() == list(range(80))


@given(st.integers(0, 100), st.integers(1, 40), st.sampled_from([2, 5, 64, 300]))
def test_queries_about_keys_are_as_near_as_rephrases(seed: int, count: int, dimension: int):
    keys = unit(7, seed, dimension)
    queries = about(keys, count, seed=seed)
    nearest = (queries @ keys.T).amax(-1)
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(count))
    assert (nearest >= 0.6 - 1e-5).all()
    assert dimension < 64 or (nearest <= 0.95 + 1e-5).all()


def test_recall_is_measured(monkeypatch: pytest.MonkeyPatch):
    keys = unit(400, 1, DIMENSION)
    book = filled(keys)
    assert book.recall(200) == 1.0
    assert filled(keys, candidates=None).recall(200) is None
    assert filled(keys[:30]).recall(200) is None
    with monkeypatch.context() as patch:
        patch.setattr(Index, "propose", lambda _, queries, __: torch.randint(400, (len(queries), 1)))
        assert (book.recall(200) or 0.0) < 0.1
    book.set_awake(range(400), False)
    assert book.recall(200) is None


def test_without_the_package_it_is_an_import_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError):
        Index(4, 4)


@pytest.mark.parametrize("steps", [0, 1])
def test_readers_see_whole_entries_while_a_writer_adds_removes_and_takes_back(steps: int):
    """A value says which key it belongs to, so an entry of another key would show."""
    book, gate = Codebook(64, 1), Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=steps)
    book.use(Index(64, 16))
    failures: list[object] = []
    done = threading.Event()

    def read() -> None:
        queries = torch.eye(64)
        try:
            while not done.is_set():
                for query, match in zip(range(64), book.match(queries, gate), strict=False):
                    if match.fired and int(book.values[match.value, 0]) % 64 != query:
                        failures.append((query, match))
        except Exception as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(600):
            value = book.add_value(torch.tensor([float(number)]))
            key = torch.nn.functional.one_hot(torch.tensor([number % 64]), 64).float()
            entries = book.add_entries(key, value)
            if number % 3 == 0:
                book.set_awake(entries, False)
            if number % 7 == 0:
                book.add_entries(key, value)
                book.truncate(entries=book.entries - 1, values=value + 1)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert book.entries == 600
