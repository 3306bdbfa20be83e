"""Edits that look like stored ones in other words: finding them, and replacing them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen import Edit, EditError, EditNotFoundError, Editor
from horen.editing import similar
from horen.edits import Explanation
from horen.memory import Gate
from support.editors import EDITED, OTHER, REPHRASED, outputs, quick_editor, same

# A random model reads nothing alike; with this everything looks like something, but for the numbers in it.
ALIKE: dict[str, Any] = {"similar_threshold": -1.0}


def alike_editor(**settings: Any) -> Editor:
    return quick_editor(edits=[Edit(EDITED, "Rome")], **(ALIKE | settings))


def test_what_an_edit_looks_like():
    editor = alike_editor()
    before = outputs(editor)
    (found,) = editor.similar(Edit(REPHRASED, "Oslo"))
    assert found is not None
    assert (found.id, found.prompt, found.target) == (1, EDITED, "Rome")
    assert found.score == pytest.approx(editor.explain(REPHRASED).score)
    assert same(outputs(editor), before)
    assert len(editor.history()) == 1


def test_the_nearest_wording_counts_on_both_sides():
    editor = quick_editor(**ALIKE)
    (found,) = editor.similar(Edit("Who wrote Hamlet?", "Oslo", (f"{REPHRASED} it",)))
    assert found is not None
    scores = [editor.explain(text).score for text in ("Who wrote Hamlet?", f"{REPHRASED} it")]
    assert found.score == pytest.approx(max(score for score in scores if score is not None))
    assert found.prompt in {EDITED, REPHRASED}


@pytest.mark.parametrize(
    ("edit", "settings"),
    [
        (Edit(EDITED, "Oslo"), {}),  # its very words are stored
        (Edit("Hello", "Oslo", (EDITED,)), {}),
        (Edit(REPHRASED, " Rome"), {}),  # the same answer
        (Edit(f"{REPHRASED} 2", "Oslo"), {}),  # another number
        (Edit(REPHRASED, "Oslo"), {"similar_threshold": 1.0}),
    ],
)
def test_what_looks_like_nothing(edit: Edit, settings: dict[str, Any]):
    assert alike_editor(**settings).similar(edit) == [None]


def test_an_empty_codebook_resembles_nothing():
    assert quick_editor(edits=[], **ALIKE).similar([Edit("a", "x"), Edit("b", "y")]) == [None, None]


@pytest.mark.parametrize("threshold", [-1.0, 0.8, 0.95, 0.99])
def test_the_same_is_found_where_few_are_looked_at_in_full(threshold: float, monkeypatch: pytest.MonkeyPatch):
    editor = alike_editor(similar_threshold=threshold)
    asked = [Edit(text, "Oslo") for text in (REPHRASED, OTHER, "Who wrote Hamlet?", f"{EDITED} it")]
    expected = editor.similar(asked)
    monkeypatch.setattr("horen.memory.search.sketch.FROM", 1)
    found = editor.similar(asked)
    assert [item and item.id for item in found] == [item and item.id for item in expected]


def test_what_is_far_from_every_edit_takes_no_hopfield_step(monkeypatch: pytest.MonkeyPatch):
    editor = alike_editor(similar_threshold=0.9999, alpha=0.01)
    monkeypatch.setattr("horen.memory.search.sketch.FROM", 1)
    monkeypatch.setattr(Gate, "retrieve", lambda *_, **__: pytest.fail("it took a step"))
    assert editor.similar(Edit(OTHER, "Oslo")) == [None]


def test_an_edit_that_cannot_be_encoded_is_refused_before_anything_changes():
    editor = alike_editor()
    with pytest.raises(EditError, match="context"):
        editor.edit([Edit("Hello", "Oslo"), Edit("long " * 5_000, "Oslo")], on_similar="supersede")
    assert [record.id for record in editor.edits()] == [1]


def test_warning_writes_it_beside_the_stored_one(caplog: pytest.LogCaptureFixture):
    editor = alike_editor()
    with caplog.at_level(logging.WARNING, logger="horen"):
        (receipt,) = editor.edit(Edit(REPHRASED, "Oslo"))
    assert (receipt.action, receipt.replaced, receipt.resembles) == ("added", (), 1)
    assert [record.id for record in editor.edits()] == [1, 2]
    assert any("looks like edit 1 in other words" in message for message in caplog.messages)


def test_ignoring_looks_at_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    editor = alike_editor()
    monkeypatch.setattr(similar, "explain", lambda *_, **__: pytest.fail("it looked"))
    with caplog.at_level(logging.WARNING, logger="horen"):
        (receipt,) = editor.edit(Edit(REPHRASED, "Oslo"), on_similar="ignore")
    assert (receipt.action, receipt.resembles) == ("added", None)
    assert not any("looks like" in message for message in caplog.messages)


@pytest.mark.parametrize("on_similar", ["supersede", [1, None]])
def test_superseding_is_one_operation_that_undo_takes_back_bit_for_bit(on_similar: Any):
    editor = alike_editor()
    before = outputs(editor)
    receipts = editor.edit([Edit(REPHRASED, "Oslo"), Edit("Hello 7", "Paris")], on_similar=on_similar)
    assert [(r.id, r.action, r.replaced, r.resembles) for r in receipts] == [
        (2, "superseded", (1,), 1),
        (3, "added", (), None),
    ]
    assert [record.id for record in editor.edits()] == [2, 3]
    assert editor.get(2).replaces == (1,)
    assert [(step.name, step.removed) for step in editor.history()] == [("edit", ()), ("edit", (1,))]
    assert editor.explain(EDITED).edit_id != 1
    undone = editor.undo()
    assert (undone.removed, undone.restored) == ((2, 3), (1,))
    assert same(outputs(editor), before)


def test_two_edits_that_look_like_one_replace_it_together():
    editor = alike_editor()
    receipts = editor.edit([Edit(REPHRASED, "Oslo"), Edit(OTHER, "Paris")], on_similar="supersede")
    assert [receipt.replaced for receipt in receipts] == [(1,), (1,)]
    assert [record.id for record in editor.edits()] == [2, 3]
    editor.undo()
    assert [record.id for record in editor.edits()] == [1]


@pytest.mark.parametrize("confirmed", [Edit(EDITED, "Rome"), Edit(EDITED, "Paris")])
def test_what_the_list_settles_by_its_very_words_is_not_settled_again(confirmed: Edit):
    editor = alike_editor()
    receipts = editor.edit([Edit(REPHRASED, "Oslo"), confirmed], "supersede", on_similar="supersede")
    assert (receipts[0].action, receipts[0].resembles) == ("added", None)
    assert receipts[1].action == ("unchanged" if confirmed.target == "Rome" else "superseded")
    assert {record.target for record in editor.edits()} == {"Oslo", confirmed.target}


def test_ids_replace_beside_what_on_conflict_replaces():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], **ALIKE)
    (receipt,) = editor.edit(Edit(EDITED, "Oslo"), "supersede", on_similar=[2])
    assert receipt.replaced == (1, 2)
    (kept,) = editor.edit(Edit(EDITED, "Rome"), "keep", on_similar=[None])
    assert (kept.action, kept.resembles) == ("kept", None)
    (again,) = editor.edit(Edit(EDITED, "Oslo", ("Hello",)), on_similar=[3])
    assert (again.action, again.replaced) == ("superseded", (3,))


@pytest.mark.parametrize(
    ("on_similar", "error", "message"),
    [
        ("replace", EditError, "on_similar='replace' is not valid"),
        ({"a": 1}, EditError, "is not valid"),
        ([1, 1], EditError, "lists 2 ids for 1 edits"),
        ([9], EditNotFoundError, "There is no edit 9"),
    ],
)
def test_what_on_similar_may_not_be(on_similar: Any, error: type[Exception], message: str):
    editor = alike_editor()
    with pytest.raises(error, match=message):
        editor.edit(Edit(REPHRASED, "Oslo"), on_similar=on_similar)
    assert len(editor.history()) == 1


def test_a_model_in_training_mode_is_read_without_dropout():
    editor = alike_editor()
    expected = editor.similar(Edit(REPHRASED, "Oslo"))
    editor.model.train()
    assert editor.similar(Edit(REPHRASED, "Oslo")) == expected
    assert editor.model.training


@given(
    scores=st.lists(st.floats(-1, 1), min_size=1, max_size=4), thresholds=st.tuples(st.floats(-1, 1), st.floats(-1, 1))
)
def test_a_greater_threshold_never_finds_more(scores: list[float], thresholds: tuple[float, float]):
    edit = Edit("a", "x")
    routes = [
        Explanation("a", "a", number, "b", "y", score, score, score, 0.5, 0.0, False, None, None)
        for number, score in enumerate(scores)
    ]
    low, high = (
        similar._nearest(similar._alike(edit, route, threshold) for route in routes) for threshold in sorted(thresholds)
    )
    assert high is None or (low == high and high.score == max(scores))
