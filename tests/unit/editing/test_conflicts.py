"""Edits that contradict, repeat or replace stored ones."""

from __future__ import annotations

import pytest
import torch

from horen import ConflictError, Edit
from support.editors import (
    EDITED,
    OTHER,
    REPHRASED,
    outputs,
    quick_editor,
    same,
)


def test_a_conflict_is_refused_unless_the_caller_decides():
    editor = quick_editor()
    before = outputs(editor)
    with pytest.raises(ConflictError, match=r"Edit 1 already answers .*'Rome', not 'Oslo'.*supersede.*keep"):
        editor.edit([Edit(OTHER, "Paris"), Edit(EDITED, "Oslo")])
    assert same(outputs(editor), before)
    assert len(editor.history()) == 1


@pytest.mark.parametrize("wording", [EDITED, REPHRASED, f"  {EDITED}\n"])
def test_keeping_the_stored_edit(wording: str):
    editor = quick_editor()
    before = outputs(editor)
    receipts = editor.edit([Edit(wording, "Oslo"), Edit("Hello", "Paris")], "keep")
    assert [(receipt.id, receipt.action) for receipt in receipts] == [(1, "kept"), (2, "added")]
    assert receipts[0].loss == editor.get(1).loss
    assert editor.get(1).target == "Rome"
    assert torch.equal(outputs(editor)[0], before[0])
    assert len(editor.edits()) == 2


@pytest.mark.parametrize("wording", [EDITED, REPHRASED])
def test_superseding_the_stored_edit(wording: str):
    editor = quick_editor()
    before = outputs(editor)
    (receipt,) = editor.edit(Edit(wording, "Oslo"), "supersede")
    assert (receipt.id, receipt.action, receipt.replaced) == (2, "superseded", (1,))
    assert [record.id for record in editor.edits()] == [2]
    assert editor.get(2).replaces == (1,)
    assert editor.explain(wording).edit_id == 2
    editor.undo()
    assert same(outputs(editor), before)


def test_superseding_two_edits_with_one():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])
    (receipt,) = editor.edit(Edit("Hello", "Oslo", (EDITED, OTHER)), "supersede")
    assert set(receipt.replaced) == {1, 2}
    assert [record.id for record in editor.edits()] == [3]
    editor.undo()
    assert [record.id for record in editor.edits()] == [1, 2]


def test_superseding_one_edit_with_two():
    editor = quick_editor()
    receipts = editor.edit([Edit(EDITED, "Oslo"), Edit(REPHRASED, "Paris")], "supersede")
    assert [receipt.replaced for receipt in receipts] == [(1,), (1,)]
    assert [record.id for record in editor.edits()] == [2, 3]
    assert editor.explain(REPHRASED).edit_id == 3
    editor.undo()
    assert [record.id for record in editor.edits()] == [1]


def test_the_very_same_edit_changes_nothing():
    editor = quick_editor()
    before = outputs(editor)
    for edit in (Edit(EDITED, "Rome", (REPHRASED,)), Edit(EDITED, "Rome"), Edit(f" {EDITED}  ", " Rome")):
        (receipt,) = editor.edit(edit)
        assert (receipt.id, receipt.action, receipt.replaced) == (1, "unchanged", ())
    assert len(editor.history()) == 1
    assert same(outputs(editor), before)


def test_more_rephrases_replace_the_edit():
    editor = quick_editor()
    (receipt,) = editor.edit(Edit(EDITED, "Rome", (REPHRASED, "Hello")))
    assert (receipt.id, receipt.action, receipt.replaced) == (2, "superseded", (1,))
    assert editor.explain("Hello").edit_id == 2
    assert [record.id for record in editor.edits()] == [2]


def test_an_unchanged_edit_beside_one_that_replaces_it():
    """The list says two things of one stored edit: it must not be lost, nor the receipts after it was written."""
    for on_conflict, edits in (
        ("supersede", [Edit(EDITED, "Rome"), Edit(REPHRASED, "Oslo")]),
        ("keep", [Edit(EDITED, "Rome", ("Hello",)), Edit(REPHRASED, "Oslo")]),
    ):
        editor = quick_editor()
        receipts = editor.edit(edits, on_conflict)
        assert len(receipts) == 2
        for edit, receipt in zip(edits, receipts, strict=True):
            if receipt.action in {"unchanged", "added", "superseded"}:
                assert editor.get(receipt.id).target == edit.target
                assert editor.explain(edit.prompt).edit_id == receipt.id


def test_superseding_a_wording_that_two_edits_share():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit("Hello", "Rome", (EDITED,))])
    (receipt,) = editor.edit(Edit(EDITED, "Oslo"), "supersede")
    assert editor.explain(EDITED).edit_id == receipt.id


def test_a_wording_of_another_edit_outlives_the_prompt():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit("Hello", "Rome", (EDITED,))])
    editor.remove(1)
    with pytest.raises(ConflictError):
        editor.edit(Edit(EDITED, "Oslo"))
