"""How GRACE's entries make room for one another, worked by hand with keys in the plane."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from horen.editors.grace.memory import Ball, Member, Memory


def memory(eps_init: float = 1.0) -> Memory:
    return Memory(2, 3, eps_init=eps_init, device=torch.device("cpu"))


def at(x: float, y: float = 0.0) -> Tensor:
    return torch.tensor([x, y])


def placed(book: Memory, x: float, target: str, prompt: str | None = None, y: float = 0.0) -> int | None:
    text = prompt or f"{target} at {x}, {y}"
    return book.place(at(x, y), Member(text, text), target)


def radii(book: Memory) -> list[float]:
    return [ball.radius for ball in book.balls if ball is not None]


def test_the_first_entry_has_the_initial_radius():
    book = memory(0.7)
    assert book.nearest(at(0)[None]) == []
    assert placed(book, 3, "Rome") == 0
    assert radii(book) == [0.7]
    assert torch.equal(book.codebook.keys, at(3)[None])
    assert not book.codebook.values.any()


def test_a_far_key_is_added():
    book = memory()
    placed(book, 0, "Rome")
    assert placed(book, 2.1, "Rome") == 1  # 2.1 > 1 + 1: the balls do not touch, whatever the label
    assert placed(book, -2.1, "Paris") == 2
    assert radii(book) == [1, 1, 1]


def test_a_near_key_of_the_same_label_expands_the_radius():
    book = memory()
    placed(book, 0, "Rome", "first")
    assert placed(book, 0.5, "Rome", "inside") is None
    assert radii(book) == [1]  # it was covered already
    assert placed(book, 1.6, " Rome ", "outside") is None  # up to white space
    assert radii(book) == [pytest.approx(1.6, rel=0.011)]
    assert radii(book)[0] >= 1.6
    assert [member.prompt for member in book.ball(0).members] == ["first", "inside", "outside"]
    assert book.codebook.entries == 1
    # The next one is measured against the expanded radius: 2.5 ≤ 1.6 + 1.
    assert placed(book, 2.5, "Rome") is None
    assert placed(book, 3.8, "Rome") == 1  # 3.8 > 2.525 + 1


def test_a_near_key_of_another_label_splits_the_ball():
    book = memory()
    placed(book, 0, "Rome")
    assert placed(book, 1.2, "Paris") == 1
    assert radii(book) == [pytest.approx(0.6), pytest.approx(0.6)]
    # 0.9 is nearest to the key at 1.2, at 0.3 ≤ 0.6 + 1; the other ball is left alone.
    assert placed(book, 0.9, "Oslo") == 2
    assert radii(book) == [pytest.approx(0.6), pytest.approx(0.15), pytest.approx(0.15)]


def test_splitting_inside_the_ball():
    book = memory()
    placed(book, 0, "Rome")
    assert placed(book, 0.4, "Paris") == 1
    assert radii(book) == [pytest.approx(0.2)] * 2


def test_only_the_nearest_entry_counts():
    book = memory()
    placed(book, 0, "Rome")
    placed(book, 3, "Paris")
    assert placed(book, 1.6, "Rome") == 2  # nearest is Paris at 1.4, although Rome's ball would be touched too
    assert radii(book) == [1, pytest.approx(0.7), pytest.approx(0.7)]


def test_distance_is_euclidean_and_exact():
    book = memory()
    placed(book, 0, "Rome")
    placed(book, 1000, "Paris", y=1000)
    found = book.nearest(torch.tensor([[3.0, 4.0], [1000.0, 1000.0001], [1000.0, 1000.0]]))
    assert [number for number, _ in found] == [0, 1, 1]
    assert found[0][1] == pytest.approx(5)
    assert found[1][1] == pytest.approx(1e-4, rel=0.5)
    assert found[2][1] == 0
    for _ in range(40):
        book.add(at(-500), Ball("x", 1.0, (Member("x", "x"),)))
    many = book.nearest(torch.tensor([[3.0, 4.0]]).expand(40, 2))
    assert many == [found[0]] * 40


def test_values():
    book = memory()
    placed(book, 0, "Rome")
    placed(book, 5, "Paris")
    book.set_value(1, torch.tensor([1.0, 2.0, 3.0]))
    assert book.codebook.values.tolist() == [[0, 0, 0], [1, 2, 3]]


def test_labels():
    book = memory()
    book.place(at(0), Member("a  b", "c\nd"), " Rome ")
    assert book.labels() == {("a b", "c d"): "Rome"}


# --- superseding ---------------------------------------------------------------------------------------------------


def test_a_dropped_prompt_sleeps():
    book = memory()
    placed(book, 0, "Rome", "first")
    placed(book, 5, "Paris", "second")
    assert book.drop([" first "], []) == []
    assert book.nearest(at(0)[None]) == [(1, 5.0)]
    assert placed(book, 0, "Oslo", "first") == 2
    assert book.nearest(at(0)[None]) == [(2, 0.0)]
    assert radii(book) == [1, 1]  # nothing was split: the old ball was gone


def test_a_dropped_founder_leaves_orphans_with_their_value():
    book = memory()
    placed(book, 0, "Rome", "first")
    placed(book, 0.5, "Rome", "second")
    book.set_value(0, torch.ones(3))
    (orphan,) = book.drop(["first"], [])
    assert (orphan.member.prompt, orphan.target, orphan.value.tolist()) == ("second", "Rome", [1, 1, 1])
    assert book.nearest(at(0)[None]) == []


def test_a_dropped_member_leaves_its_founder():
    book = memory()
    placed(book, 0, "Rome", "first")
    placed(book, 0.5, "Rome", "second")
    assert book.drop([], ["second"]) == []
    assert [member.prompt for member in book.ball(0).members] == ["first"]
    assert placed(book, 0.5, "Paris", "second") == 1
    assert radii(book) == [pytest.approx(0.25)] * 2


def test_a_wording_is_dropped_without_its_edit():
    book = memory()
    book.place(at(0), Member("edit", "edit"), "Rome")
    book.place(at(5), Member("edit", "rephrase"), "Rome")
    book.drop([], ["rephrase"])
    assert list(book.labels()) == [("edit", "edit")]


def test_going_back_to_a_mark():
    book = memory()
    placed(book, 0, "Rome", "first")
    placed(book, 0.5, "Rome", "second")
    before, mark = list(book.balls), book.mark()
    book.drop(["first"], [])
    placed(book, 0.3, "Paris")
    placed(book, 9, "Oslo")
    book.reset(mark)
    assert book.balls == before
    assert book.codebook.entries == len(book.codebook.values) == len(book.codebook) == 1
    assert book.nearest(at(9)[None]) == [(0, 9.0)]
