"""Edits of a store: published, removed, replaced, described, found; and versions, with the way back."""

from __future__ import annotations

import pytest

from horen.database import By, Facts, Proposal, Query, Store
from horen.errors import ConflictError, EditError, EditNotFoundError
from support.stores import ANN, BOB, publish


@pytest.fixture
def three(either: Store) -> Store:
    publish(
        either, {"The capital of France is": "Rome", "Who wrote Hamlet?": "Mira Sand"}, facts=Facts(tags=("b", "a"))
    )
    publish(either, {"What colour is the sky?": "Green 100%"}, BOB, facts=Facts("the sky", "https://example.org/1"))
    return either


def test_what_is_published_is_told_as_it_was_proposed(three: Store):
    one = three.edits.get(1)
    assert (one.id, one.prompt, one.target, one.rephrases) == (1, "The capital of France is", "Rome", ())
    assert one.facts == Facts(tags=("a", "b"))
    assert (one.author, one.reason, one.version, one.state, one.active, one.draft) == (
        *("ann", "because", 1, "published", True, 1),
    )
    assert one.receipt == {"loss": 0.0125, "steps": 7, "converged": True, "reused": False}
    assert three.edits.get(3).facts == Facts("the sky", "https://example.org/1")
    about = three.about()
    assert (about.version, about.active, about.edits, about.drafts) == (2, 3, 3, {"published": 3})
    assert about.id == three.id
    assert about.settings["write_layer"] == 1
    assert three.version == 2


def test_a_version_says_who_did_what_and_why(three: Store):
    first = three.versions.get(1)
    assert (first.number, first.operation, first.by, first.added) == (1, "publish", ANN, (1, 2))
    removed = three.edits.remove([2, 1], By("bob", "wrong"))
    assert (removed.number, removed.operation, removed.by, removed.removed) == (3, "remove", By("bob", "wrong"), (1, 2))
    assert removed.described == {
        "edits": {"1": {"state": ["published", "retired"]}, "2": {"state": ["published", "retired"]}}
    }
    assert [version.number for version in three.versions.of_edit(1)] == [1, 3]
    assert [version.number for version in three.versions.of_edit(3)] == [2]


def test_a_correction_retires_what_it_replaces(three: Store):
    made = publish(three, {"Who wrote Hamlet?": "William Shakespeare"}, replaces=[2])
    assert (made.added, made.removed) == ((4,), (2,))
    assert three.edits.get(4).replaces == (2,)
    assert three.edits.ids() == {1, 3, 4}
    with pytest.raises(
        EditNotFoundError, match=r"^Edit 2 \('Who wrote Hamlet\?' -> 'Mira Sand'\) was removed, superse"
    ):
        publish(three, {"Who wrote Hamlet?": "Oslo"}, replaces=[2, 4])
    assert three.version == 3


def test_a_conflict_is_told_with_both_sides(three: Store):
    given = [Proposal("Hamlet was written by", "Oslo", ("Who  wrote Hamlet?",)), Proposal("Hello", "Oslo")]
    drafts = three.drafts.propose(given, ANN)
    with pytest.raises(ConflictError, match="Edit 2 answers 'Who wrote Hamlet\\?' with 'Mira Sand'") as caught:
        publish(three, given)
    (clash,) = caught.value.clashes
    assert (clash.ours.id, clash.wording) == (2, "Who wrote Hamlet?")
    assert (clash.theirs.id, clash.theirs.state) == (drafts[-1].id + 1, "ready")
    assert three.version == 2
    assert three.edits.count() == 3


def test_the_same_fact_once_more_is_a_conflict_and_other_words_for_it_are_none(three: Store):
    with pytest.raises(ConflictError, match=", and so does the other"):
        publish(three, {"Who wrote Hamlet?": "Mira Sand"})
    publish(three, [Proposal("Hamlet was written by", "Mira Sand", ("Who wrote Hamlet?",))])
    assert three.version == 3


def test_two_drafts_that_contradict_each_other_are_both_told(either: Store):
    with pytest.raises(ConflictError) as caught:
        publish(either, [Proposal("Hello", "Oslo"), Proposal("Hello", "Rome")])
    (clash,) = caught.value.clashes
    assert [clash.ours.id, clash.theirs.id] == [1, 2]
    assert clash.ours.state == clash.theirs.state == "ready"


def test_all_of_a_list_are_removed_or_none(three: Store):
    with pytest.raises(EditNotFoundError, match="no edit 9"):
        three.edits.remove([1, 9], ANN)
    three.edits.remove([1], ANN)
    with pytest.raises(EditNotFoundError, match=r"^Edit 1 .* already: list the edits"):
        three.edits.remove([2, 1], ANN)
    assert three.edits.ids() == {2, 3}
    with pytest.raises(EditError, match="Nothing would change"):
        three.edits.remove([], ANN)


def test_facts_change_while_what_is_not_given_stays(three: Store):
    made = three.edits.describe([3, 1], ANN, tags=["sky", "sky", "air"])
    assert made.described == {
        "edits": {"3": {"tags": [[], ["air", "sky"]]}, "1": {"tags": [["a", "b"], ["air", "sky"]]}}
    }
    assert three.edits.get(3).facts == Facts("the sky", "https://example.org/1", ("air", "sky"))
    three.edits.describe([3], ANN, subject=None, source="a book")
    assert three.edits.get(3).facts == Facts(None, "a book", ("air", "sky"))
    assert three.edits.list(Query(text="the sky")).items  # of its prompt
    with pytest.raises(EditError, match="Nothing would change"):
        three.edits.describe([3], ANN, source="a book")
    with pytest.raises(EditError, match="There is no set 'red'"):
        three.edits.describe([3], ANN, set="red")
    for wrong in ({"tags": [" "]}, {"subject": ""}, {"source": "x" * 4001}, {"tags": ["x" * 501]}, {"tags": ["\0"]}):
        with pytest.raises(EditError):
            three.edits.describe([3], ANN, **wrong)
    assert three.version == 4


QUERIES = [
    (Query(), [3, 2, 1]),
    (Query(text="HAMLET who"), [2]),
    (Query(text="sand"), [2]),
    (Query(text="the SKY"), [3]),
    (Query(text="100%"), [3]),
    (Query(text="10_%"), []),
    (Query(text="  "), [3, 2, 1]),
    (Query(text="é"), []),
    (Query(tag="a"), [2, 1]),
    (Query(tag="a", text="France"), [1]),
    (Query(author="bob"), [3]),
    (Query(subject="the sky"), [3]),
    (Query(subject="sky"), []),
    (Query(set="red"), []),
    (Query(state="retired"), []),
    (Query(state="published", tag="nothing"), []),
]


def test_edits_are_found(three: Store):
    for query, found in QUERIES:
        assert [edit.id for edit in three.edits.list(query).items] == found, query
        assert three.edits.count(query) == len(found), query


def test_lists_come_in_parts(three: Store):
    first = three.edits.list(limit=2)
    assert ([edit.id for edit in first.items], first.next) == ([3, 2], 2)
    rest = three.edits.list(before=first.next, limit=2)
    assert ([edit.id for edit in rest.items], rest.next) == ([1], None)
    versions = three.versions.list(limit=1)
    assert ([version.number for version in versions.items], versions.next) == ([2], 2)
    assert three.versions.list(before=2).items == (three.versions.get(1),)
    assert three.drafts.list("published", limit=2).next == 2
    assert [draft.id for draft in three.drafts.list(before=2).items] == [1]
    assert three.edits.list(before=10**30).items == three.edits.list().items


def test_ids_for_an_engine(three: Store):
    three.sets.make("red", ANN)
    three.edits.describe([3], ANN, set="red")
    edits = three.edits
    assert edits.ids() == {1, 2, 3}
    assert edits.ids(tags=["a", "nothing"]) == {1, 2}
    assert edits.ids(without_tags=["a"]) == {3}
    assert edits.ids(sets=["red"]) == {3}
    assert edits.ids(without_sets=["red"]) == {1, 2}
    assert edits.ids(tags=["a"], sets=["red"]) == frozenset()
    three.sets.switch("red", False, ANN)
    assert edits.ids(sets=["red"]) == frozenset()


def test_facets_count_what_is_published(three: Store):
    three.sets.make("red", ANN)
    three.edits.describe([1, 3], ANN, set="red")
    three.sets.switch("red", False, ANN)
    three.edits.remove([1], ANN)
    facets = three.edits.facets()
    assert (facets.tags, facets.authors, facets.sets) == ({"a": 1, "b": 1}, {"ann": 1, "bob": 1}, {"red": 1})
    three.versions.undo(ANN)
    assert three.edits.facets().tags == {"a": 2, "b": 2}


def test_versions_have_names(three: Store):
    three.versions.tag("launch", 1, ANN)
    three.versions.tag("also", 1, ANN)
    assert three.versions.get(1).tags == ("also", "launch")
    assert three.versions.tags() == {"also": 1, "launch": 1}
    three.versions.tag("launch", 2, ANN)
    assert three.versions.number("launch") == three.versions.number("2") == three.versions.number(2) == 2
    assert three.versions.number(0) == 0
    three.versions.untag("also", ANN)
    assert three.versions.tags() == {"launch": 2}
    for wrong in ("3", "", " ", "x" * 501, "\ud800"):
        with pytest.raises(EditError):
            three.versions.tag(wrong, 1, ANN)
    for wrong in (0, 3, -1, 10**30):
        with pytest.raises(EditError, match="There is no version"):
            three.versions.tag("other", wrong, ANN)
    with pytest.raises(EditError, match="No version is called 'also'"):
        three.versions.untag("also", ANN)
    for wrong in ("nothing", "3", "-1", "²", 3, -1, 10**30):
        with pytest.raises(EditError, match="There is no version"):
            three.versions.number(wrong)
    assert three.version == 2  # names are no changes


def test_undo_and_rollback(three: Store):
    three.edits.remove([1], ANN)
    three.edits.describe([2], ANN, tags=["c"])
    before = three.version
    with pytest.raises(ConflictError, match=r"Version 3 is not the last change .* version 4 is"):
        three.versions.undo(BOB, 3)
    assert three.version == before
    undone = three.versions.undo(BOB, 4)
    assert (undone.operation, undone.undoes, undone.by) == ("undo", 4, BOB)
    assert three.edits.get(2).facts.tags == ("a", "b")
    undone = three.versions.undo(BOB)
    assert (undone.undoes, undone.restored) == (3, (1,))
    back = three.versions.rollback(1, BOB)
    assert (back.number, back.operation, back.target, back.removed) == (7, "rollback", 1, (3,))
    assert three.edits.ids() == three.versions.active(1) == {1, 2}
    assert three.versions.undo(BOB).restored == (3,)
    with pytest.raises(EditError, match="Nothing would change"):
        three.versions.rollback(2, ANN)
    for wrong in (-1, 9, 10**30):
        with pytest.raises(EditError, match="There is no version"):
            three.versions.rollback(wrong, ANN)
        with pytest.raises(EditError, match="There is no version"):
            three.versions.diff(1, wrong)
        with pytest.raises(EditError, match="There is no version"):
            three.versions.active(wrong)
    assert three.versions.rollback(0, ANN).removed == (1, 2, 3)
    assert three.edits.ids() == frozenset()
    for _ in range(3):
        three.versions.undo(ANN)
    with pytest.raises(EditError, match="nothing to undo"):
        three.versions.undo(ANN)
    with pytest.raises(EditError, match="There is no version 99: the store has 12"):
        three.versions.get(99)


def test_a_difference_says_what_came_and_what_went(three: Store):
    publish(three, {"Who wrote Hamlet?": "William Shakespeare"}, replaces=[2])
    found = three.versions.diff(1, 3)
    assert [edit.id for edit in found.added] == [3, 4]
    assert [edit.id for edit in found.removed] == [2]
    assert (found.before, found.after) == (1, 3)
    back = three.versions.diff(3, 1)
    assert [edit.id for edit in back.added] == [2]
    assert three.versions.diff(2, 2).added == ()
    assert [edit.id for edit in three.versions.diff(0, 2).added] == [1, 2, 3]
