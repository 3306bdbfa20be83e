"""Side memories against numbers worked by hand, and against what the paper says of their subspaces."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.editors.wise.memory import Margins, Side, activation_scores, subspace, ties

SHAPE = (200, 300)


def side(**settings: object) -> Side:
    return Side(**({"retrieve": False, "density": 1.0, "share": 1.0} | settings))  # type: ignore[arg-type]


def rows(*values: list[float]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(value) for value in values)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5])
def test_subspaces_have_the_density_and_share_what_chance_lets_them(ratio: float):
    masks = [subspace(SHAPE, ratio, 0, shard) for shard in (1, 2, 3)]
    near = 5 * (0.25 / masks[0].numel()) ** 0.5  # five standard deviations at most
    for mask in masks:
        assert float(mask.float().mean()) == pytest.approx(ratio, abs=near)
    for one, other in itertools.combinations(masks, 2):
        assert float((one & other).float().mean()) == pytest.approx(ratio**2, abs=near)
    assert float((masks[0] & masks[1] & masks[2]).float().mean()) == pytest.approx(ratio**3, abs=near)


def test_subspaces_are_drawn_again_alike():
    mask = subspace(SHAPE, 0.2, 7, 1)
    assert torch.equal(mask, subspace(SHAPE, 0.2, 7, 1))
    assert not torch.equal(mask, subspace(SHAPE, 0.2, 8, 1))
    assert bool(subspace(SHAPE, 1.0, 0, 1).all())


@pytest.mark.parametrize(
    ("density", "merged"),
    [
        # Trimmed to [4, 0, 3, 0], [-2, -5, 0, 0] and [2, -1, 0, 0]: sums 4, -6, 3, 0.
        (0.5, [3.0, -3.0, 3.0, 0.0]),
        # Nothing is trimmed: sums 4, -7, 4, 1.2; means of those with the sum's sign.
        (1.0, [3.0, -7 / 3, 2.0, 0.75]),
    ],
)
def test_ties(density: float, merged: list[float]):
    changes = rows([4.0, -1.0, 3.0, 1.0], [-2.0, -5.0, 1.0, 0.5], [2.0, -1.0, 0.0, -0.3])
    torch.testing.assert_close(ties(changes, density), torch.tensor(merged))


def test_ties_of_opposites_is_nothing():
    assert ties(rows([1.0, -2.0], [-1.0, 2.0]), 1.0).tolist() == [0.0, 0.0]


@given(st.integers(0, 1000), st.floats(0.05, 1.0))
def test_changes_of_disjoint_subspaces_merge_without_loss(seed: int, density: float):
    draw = torch.Generator().manual_seed(seed)
    owner = torch.randint(4, (20, 5), generator=draw)
    change = torch.randn(20, 5, generator=draw)
    parts = [change * (owner == number) for number in range(3)]
    merged = ties(parts, density)
    kept = merged != 0
    assert torch.equal(merged[kept], change[kept])
    assert torch.equal(ties(parts, 1.0), change * (owner < 3))
    for number in range(3):
        assert int((kept & (owner == number)).sum()) == min(int((owner == number).sum()), round(density * 100))


def test_the_score():
    features, difference = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]]), torch.tensor([[3.0, 0.0, 0], [0, 2, 0]])
    assert activation_scores(features, difference).tolist() == [5.0, 0.0]


def test_the_margin_loss():
    irrelevant, edited = rows([0.5, 2.0], [3.0, 5.0])
    # α: 0 and 1. β: 1 and 0. γ: leads of 2.5, 1, 4.5 and 3, of which one is short by 1.
    assert float(Margins(1.0, 4.0, 2.0).loss(edited, irrelevant)) == 0.5 + 0.5 + 0.25
    assert not Margins(1.0, 4.0, 2.0).kept(edited, irrelevant)
    assert Margins(2.0, 3.0, 1.0).kept(edited, irrelevant)
    assert not Margins(2.0, 3.0, 1.1).kept(edited, irrelevant)


def test_the_threshold_is_the_smallest_score_so_far():
    features = torch.eye(2)
    first = side().with_room(2, 10, (2, 2), features.device).written(torch.diag(torch.tensor([3.0, 4.0])), 2, features)
    assert (first.threshold, first.filled) == (3.0, 2)
    second = first.with_room(2, 10, (2, 2), features.device).written(torch.diag(torch.tensor([9.0, 9.0])), 1, features)
    assert (second.threshold, second.filled, len(second.shards)) == (3.0, 3, 1)
    third = second.written(torch.diag(torch.tensor([1.0, 9.0])), 1, features)
    assert third.threshold == 1.0
    assert side(share=0.5, smallest=1.0).threshold == 0.5
    assert side().threshold == math.inf


def test_full_shards_are_merged_and_built_on():
    device = torch.device("cpu")
    one, two, three = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])
    found = side().with_room(2, 1, (1, 2), device).written(one, 1, torch.eye(2))
    found = found.with_room(2, 1, (1, 2), device).written(two, 1, torch.eye(2))
    assert [memory.tolist() for memory in found.memories] == [[[1.0, 2.0]]]
    assert found.base is None
    found = found.with_room(2, 1, (1, 2), device)
    assert [memory.tolist() for memory in found.memories] == [[[1.0, 2.0]]]
    found = found.written(three, 1, torch.eye(2))
    assert found.base is not None
    assert found.base.tolist() == [[1.0, 2.0]]
    assert [memory.tolist() for memory in found.memories] == [[[5.0, 2.0]]]


def test_full_shards_stay_memories_to_retrieve():
    device = torch.device("cpu")
    found = side(retrieve=True)
    for change in (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])):
        found = found.with_room(2, 1, (1, 2), device)
        assert found.base is None
        found = found.written(change, 1, torch.eye(2))
    assert [memory.tolist() for memory in found.memories] == [[[1.0, 2.0]], [[4.0, 0.0]]]
    assert found.scores(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).argmax(-1).tolist() == [1, 0]
