"""What a step would decide is told without it, or left open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory import Codebook, Gate
from horen.memory.hopfield import Retrieval
from horen.memory.recall import about
from horen.memory.search import foresight, sketch
from horen.memory.search.foresight import Foresight, foresee, look_around
from horen.memory.search.sketch import Sketch, supported
from support.reference import clustered, retrieve_whole, unit

pytestmark = pytest.mark.skipif(not supported(), reason="this processor does not multiply bytes fast")

GATES = st.builds(
    Gate,
    threshold=st.floats(-0.2, 1),
    margin=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    contrast=st.sampled_from([0.0, 0.4]),
    neighbours=st.integers(1, 9),
    alpha=st.sampled_from([0.02, 0.1, 0.5, 1.0]),
    beta=st.sampled_from([0.0, 1.0, 20.0, 100.0, 3000.0]),
    steps=st.just(1),
)


def book_of(keys: Tensor, value_of: Tensor) -> Codebook:
    book = Codebook(keys.shape[1], 1)
    for value in range(int(value_of.max()) + 1):
        book.add_entries(keys[value_of == value], book.add_value(torch.zeros(1)))
    return book


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 300),
    gate=GATES,
    spread=st.sampled_from([0.1, 0.5, 2.0]),
    asleep=st.sampled_from([0.0, 0.3, 0.99]),
    readings=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    candidates=st.sampled_from([1, 4, 16]),
)
@example(  # of two readings that come near to one edit the margin lets one fire
    seed=12,
    count=12,
    gate=Gate(contrast=0.4, neighbours=2, alpha=0.1, beta=20.0, steps=1, threshold=0.0, margin=0.05),
    spread=0.1,
    asleep=0.3,
    readings=[2, 2],
    candidates=1,
)
def test_the_same_edits_wake_as_with_the_step(
    seed: int, count: int, gate: Gate, spread: float, asleep: float, readings: list[int], candidates: int
):
    keys = clustered(count, seed, 24, spread=spread)
    book = book_of(keys, torch.arange(count) // 2)
    draw = torch.Generator().manual_seed(seed)
    book.set_awake((torch.rand(count, generator=draw) < asleep).nonzero()[:, 0].tolist()[: count - 1], False)
    queries = torch.cat([about(keys, sum(readings), seed=seed), keys[:1]])[: sum(readings)]
    prompts = torch.arange(len(readings)).repeat_interleave(torch.tensor(readings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "FROM", 1)
        patch.setattr(foresight, "_CANDIDATES", candidates)
        found = book.waking(queries, gate, prompts=prompts)
    sure = book.match(queries, gate)
    for prompt in range(len(readings)):
        rows = (prompts == prompt).nonzero()[:, 0].tolist()
        best = max((sure[row] for row in rows), key=lambda one: one.score, default=None)
        told = max((one for row in rows if (one := found[row])), key=lambda one: one.score, default=None)
        if best is not None and best.fired:
            assert told is not None
            assert (told.fired, told.value) == (True, best.value)
        else:
            assert told is None or not told.fired


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 300),
    gate=GATES,
    spread=st.sampled_from([0.1, 0.5, 2.0]),
    candidates=st.sampled_from([1, 4, 16]),
    offset=st.floats(-0.5, 0.5),
)
def test_what_is_certain_is_right_and_errs_by_no_more_than_it_says(
    seed: int, count: int, gate: Gate, spread: float, candidates: int, offset: float
):
    keys, labels = clustered(count, seed, 24, spread=spread), torch.arange(count) // 2
    queries = about(keys, 12, seed=seed)
    options = {name: getattr(gate, name) for name in ("alpha", "beta", "steps", "epsilon")}
    sure, _ = retrieve_whole(queries, keys, labels, **options, neighbours=gate.neighbours if gate.contrast else 1)
    score, lead = gate.score(sure.similarity, sure.crowd), sure.similarity - sure.runner_up_similarity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foresight, "_CANDIDATES", candidates)
        look = look_around(queries, keys, gate, Sketch(24).take(keys))
        assert (look.highest >= (queries @ keys.T).amax(-1) - 1e-6).all()
        error = foresee(look, labels, gate).error
        # Thresholds and margins as near to what is found as the error is large: nothing is harder to decide.
        tight = [
            change
            for row in range(12)
            for change in (
                {"threshold": float(score[row] + offset * error[row])},
                {"threshold": -2.0, "margin": max(0.0, float(lead[row] + offset * error[row]))},
            )
        ]
        for asked in (gate, *(replace(gate, **change) for change in tight)):
            seen = foresee(look, labels, asked)
            known = seen.certain
            assert torch.equal(seen.found.index[known], sure.index[known])
            assert ((seen.score - score).abs() <= seen.error)[known].all()
            fires = (score > asked.threshold) & (lead >= asked.margin)
            told = (seen.score > asked.threshold) & (
                seen.found.similarity - seen.found.runner_up_similarity >= asked.margin
            )
            assert torch.equal(told[known], fires[known])


def test_a_prompt_that_is_much_nearer_to_one_edit_needs_no_step(monkeypatch: pytest.MonkeyPatch):
    stepped: list[int] = []
    retrieve = Gate.retrieve

    def counting(gate: Gate, queries: Tensor, *args: object, **options: object) -> tuple[Retrieval, Tensor]:
        stepped.append(len(queries))
        return retrieve(gate, queries, *args, **options)

    monkeypatch.setattr(Gate, "retrieve", counting)
    keys = unit(20_000, 1, 512)
    book = Codebook(512, 1)
    for start in range(0, 20_000, 100):
        book.add_entries(keys[start : start + 100], book.add_value(torch.zeros(1)))
    gate = Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=1, contrast=0.4, neighbours=8)
    far = normalize(keys[300] + 20 * unit(1, 5, 512)[0], dim=-1)
    found = book.waking(torch.stack([keys[300], far]), gate, prompts=torch.arange(2))
    assert stepped == []
    assert (found[0] and (found[0].fired, found[0].value)) == (True, 3)
    assert found[1] is None
    book.waking(keys[300:301], gate)
    assert stepped == [1]


def seen_as(
    scores: list[float], errors: list[float], certain: list[bool], winners: list[int], fires: list[bool] | None = None
) -> Foresight:
    row, index = torch.zeros(len(scores)), torch.tensor(winners)
    found = Retrieval(index, row, row, index, row, row)
    fired = torch.tensor(fires or [True] * len(scores))
    return Foresight(found, torch.tensor(scores), torch.tensor(errors), torch.tensor(certain), fired)


@pytest.mark.parametrize(
    ("scores", "errors", "certain", "winners", "expected"),
    [
        ([0.9, 0.6], [0.1, 0.1], [True, True], [0, 1], [True, True]),
        ([0.9, 0.8], [0.1, 0.1], [True, True], [0, 1], [False, False]),  # either may be the higher
        ([0.9, 0.8], [0.1, 0.1], [True, True], [0, 0], [True, True]),  # and that is all the same
        ([0.9, 0.6], [0.1, 0.1], [True, False], [0, 1], [False, False]),
        ([0.9, 0.6], [0.1, 0.1], [False, True], [0, 1], [False, False]),
    ],
)
def test_readings_of_one_prompt_are_settled_together(
    scores: list[float], errors: list[float], certain: list[bool], winners: list[int], expected: list[bool]
):
    seen = seen_as(scores, errors, certain, winners)
    assert seen.settled(torch.arange(2), torch.tensor([7, 7])).tolist() == expected
    assert seen.settled(torch.arange(2), torch.tensor([7, 8])).tolist() == certain


def test_readings_of_one_edit_of_which_the_margin_lets_one_fire_are_not_settled():
    seen = seen_as([0.9, 0.8], [0.1, 0.1], [True, True], [0, 0], fires=[True, False])
    assert seen.settled(torch.arange(2), torch.tensor([7, 7])).tolist() == [False, False]
