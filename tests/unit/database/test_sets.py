"""Edit sets: switched on and off together, compared, merged and dropped."""

from __future__ import annotations

import pytest

from horen.database import Facts, Proposal, Store
from horen.errors import ConflictError, EditError
from support.stores import ANN, publish, train


@pytest.fixture
def two(store: Store) -> Store:
    """Two sets, the second of which is off; each says something else of the capital of France."""
    store.sets.make("red", ANN)
    store.sets.make("blue", ANN)
    publish(store, {"France": "Rome", "Hello": "Oslo"}, facts=Facts(set="red"))
    store.sets.switch("red", False, ANN)
    publish(store, {"France": "Paris", "Sky": "blue"}, facts=Facts(set="blue"))
    return store


def test_a_set_is_switched_with_all_its_edits(two: Store):
    assert [(one.name, one.on, one.edits) for one in two.sets.list()] == [("blue", True, 2), ("red", False, 2)]
    assert two.edits.ids() == {3, 4}
    assert (two.edits.get(1).state, two.edits.get(1).active) == ("published", False)
    made = two.sets.switch("blue", False, ANN)
    assert (made.operation, made.removed, made.described) == ("switch", (3, 4), {"sets": {"blue": [True, False]}})
    assert two.sets.switch("red", True, ANN).restored == (1, 2)


def test_sets_that_contradict_each_other_are_never_on_together(two: Store):
    with pytest.raises(ConflictError) as caught:
        two.sets.switch("red", True, ANN)
    assert [(c.ours.id, c.theirs.id, c.wording) for c in caught.value.clashes] == [(3, 1, "France")]
    assert two.edits.ids() == {3, 4}
    found = two.sets.clashes("red", "blue")
    assert [(c.ours.id, c.theirs.id) for c in found] == [(1, 3)]
    with pytest.raises(ConflictError, match="in 1 edits, the first of which answer 'France' with 'Rome' and 'Paris'"):
        two.sets.merge("red", "blue", ANN)


@pytest.mark.parametrize(("choice", "retired", "active"), [("ours", 3, set()), ("theirs", 1, set())])
def test_merging_into_a_set_that_is_off(two: Store, choice: str, retired: int, active: set[int]):
    made = two.sets.merge("red", "blue", ANN, on_conflict=choice)
    assert made.operation == "merge"
    assert [(one.name, one.on, one.edits) for one in two.sets.list()] == [("red", False, 3)]
    assert two.edits.get(retired).state == "retired"
    assert two.edits.ids() == active
    two.versions.undo(ANN)
    assert [(one.name, one.on, one.edits) for one in two.sets.list()] == [("blue", True, 2), ("red", False, 2)]
    assert two.edits.ids() == {3, 4}


def test_merging_wakes_what_was_off(two: Store):
    made = two.sets.merge("blue", "red", ANN, on_conflict="theirs")
    assert (made.removed, made.restored) == ((3,), (1, 2))
    assert two.edits.ids() == {1, 2, 4}


def test_dropping_a_set_wakes_its_edits_and_undo_brings_it_back_as_it_was(two: Store):
    with pytest.raises(ConflictError):
        two.sets.drop("red", ANN)
    two.edits.remove([3], ANN)
    made = two.sets.drop("red", ANN)
    assert made.restored == (1, 2)
    assert two.edits.get(1).facts.set is None
    assert [one.name for one in two.sets.list()] == ["blue"]
    two.versions.undo(ANN)
    assert [(one.name, one.on) for one in two.sets.list()] == [("blue", True), ("red", False)]
    assert two.edits.ids() == {4}


def test_an_empty_set_goes_too_and_comes_back_as_it_was(store: Store):
    store.sets.make("red", ANN, on=False)
    assert store.sets.drop("red", ANN).described == {"sets": {"red": [False, None]}}
    assert store.sets.list() == ()
    store.sets.make("red", ANN)
    store.versions.rollback(0, ANN)
    assert [(one.name, one.on) for one in store.sets.list()] == [("red", False)]


def test_drafts_of_a_set_that_goes_can_still_be_published(two: Store):
    moved, freed = two.drafts.propose([Proposal("Sun", "hot", facts=Facts(set=name)) for name in ("red", "blue")], ANN)
    train(two)
    two.edits.remove([1], ANN)
    two.sets.merge("blue", "red", ANN)
    assert two.drafts.get(moved.id).facts.set == "blue"
    two.sets.drop("blue", ANN)
    assert two.drafts.get(freed.id).facts.set is None
    assert two.drafts.publish([moved.id], ANN).added == (5,)


def test_what_is_wrong_with_a_set_is_said(two: Store):
    sets, before = two.sets, two.version
    for name in ("", " ", "x" * 501, "\0", "\ud800"):
        with pytest.raises(EditError):
            sets.make(name, ANN)
    with pytest.raises(EditError, match="There is a set 'red' already"):
        sets.make("red", ANN)
    for call in (
        lambda: sets.switch("green", True, ANN),
        lambda: sets.drop("green", ANN),
        lambda: sets.merge("red", "green", ANN),
        lambda: sets.clashes("green", "red"),
        lambda: publish(two, {"a": "b"}, facts=Facts(set="green")),
    ):
        with pytest.raises(EditError, match="There is no set 'green'"):
            call()
    with pytest.raises(EditError, match="merged with itself"):
        sets.merge("red", "red", ANN)
    with pytest.raises(EditError, match="on_conflict='both' is not valid"):
        sets.merge("red", "blue", ANN, on_conflict="both")
    with pytest.raises(EditError, match="Nothing would change"):
        sets.switch("red", False, ANN)
    with pytest.raises(EditError, match="The set 'red' is switched off"):
        publish(two, {"a": "b"}, facts=Facts(set="red"))
    assert two.version == before
