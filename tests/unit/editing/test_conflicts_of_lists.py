"""Contradictions and repetitions in a list of edits."""

from __future__ import annotations

import pytest

from horen.editing.conflicts import Clash, Settled, settle
from horen.edits import Edit, OnConflict

EDITS = [
    Edit("Who runs it?", "Ada", ["Its boss is"]),
    Edit("Where is it?", "Oslo"),
    Edit("Who  runs it?", "Ada", ["Its boss is"]),  # the first again
    Edit("Its boss is", "Ben"),  # a rephrase of the first
    Edit("Who is it?", "Ada", ["Its boss is"]),  # shares a wording with the first, and its target
]


def test_what_clashes_is_told():
    assert settle(EDITS, "error") == Settled([0, 1, 4], {}, [Clash(0, 2, "Who runs it?"), Clash(0, 3, "Its boss is")])


@pytest.mark.parametrize(
    ("choice", "kept", "dropped"),
    [("supersede", [1, 4], {0: 2, 2: 3, 3: 4}), ("keep", [0, 1, 4], {2: 0, 3: 0})],
)
def test_ways_out(choice: OnConflict, kept: list[int], dropped: dict[int, int]):
    assert settle(EDITS, choice) == Settled(kept, dropped)


def test_repeats_may_be_dropped_whatever_becomes_of_the_rest():
    assert settle(EDITS, "error", repeats=True) == Settled([0, 1, 4], {2: 0}, [Clash(0, 3, "Its boss is")])
    assert settle(EDITS, "supersede", repeats=True) == Settled([1, 4], {2: 0, 0: 3, 3: 4})
    other_rephrases = [EDITS[0], Edit("Who runs it?", "Ada")]
    assert settle(other_rephrases, "error", repeats=True).clashes == [Clash(0, 1, "Who runs it?")]


def test_equal_hashes_are_no_clash(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.editing.conflicts.hash", lambda _: 7, raising=False)
    assert settle(EDITS[:2], "error") == Settled([0, 1])
    assert settle(EDITS, "keep") == Settled([0, 1, 4], {2: 0, 3: 0})
