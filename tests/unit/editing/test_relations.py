"""When two edits disagree: one statement, and what a list, a file, parts to merge and the stored edits make of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen import ConflictError, EditError
from horen.editing.conflicts import Clash, Relation, Settled, relation, settle
from horen.editing.plan import check_list, plan
from horen.edits import Edit, EditRecord, OnConflict, same_text
from horen.store.history import History

WAYS: tuple[OnConflict, ...] = ("error", "supersede", "keep")

prompts = st.sampled_from(["a", " a\n", "b", "caf\u00e9", "cafe\u0301", "d"])
targets = st.sampled_from(["x", "x ", "y"])
edits = st.builds(Edit, prompts, targets, st.lists(prompts, max_size=2))
lists = st.lists(edits, max_size=6)


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        (Edit("a", "x"), Edit("b", "x"), Relation.apart),
        (Edit("a", "x", ["c"]), Edit("b", "y", ["d"]), Relation.apart),
        (Edit("a", "x"), Edit(" a", "y"), Relation.contradicts),
        (Edit("a", "x", ["c"]), Edit("b", "y", ["c"]), Relation.contradicts),
        (Edit("a", "x", ["b"]), Edit("b", "x"), Relation.agrees),
        (Edit("a", "x", ["c"]), Edit("b", "x ", ["c"]), Relation.agrees),
        (Edit("a", "x"), Edit("a", "x", ["c"]), Relation.extends),
        (Edit("a", "x", ["b"]), Edit("a", "x", ["c"]), Relation.extends),
        (Edit("a", "x", ["c"]), Edit("a", "x"), Relation.within),
        (Edit("a", "x", ["c", "b"]), Edit("a ", " x", ["b", "c", "a"]), Relation.same),
        (Edit("caf\u00e9", "x"), Edit("cafe\u0301", "x"), Relation.same),
    ],
)
def test_how_two_edits_relate(earlier: Edit, later: Edit, expected: Relation):
    assert relation(earlier, later) is expected


@given(edits, edits)
def test_who_comes_first_matters_to_repetitions_alone(one: Edit, other: Edit):
    there, back = relation(one, other), relation(other, one)
    if there is Relation.within:
        assert back is Relation.extends
    elif there is not Relation.extends:
        assert back is there
    assert there.repeats == back.repeats
    assert there.clashes == back.clashes
    assert relation(one, one) is Relation.same


# --- what was decided of them before there was one statement, told pair by pair -----------------------------------


def wordings(edit: Edit | EditRecord) -> list[str]:
    return list(dict.fromkeys(same_text(text) for text in (edit.prompt, *edit.rephrases)))


def answers_alike(one: Edit | EditRecord, other: Edit | EditRecord) -> bool:
    return same_text(one.target) == same_text(other.target)


def asks_alike(one: Edit | EditRecord, other: Edit | EditRecord) -> bool:
    return same_text(one.prompt) == same_text(other.prompt)


def refused(edits: Sequence[Edit]) -> str | None:
    """What a list is refused with: a prompt with its target twice, or a wording with two targets."""
    for later, edit in enumerate(edits):
        for earlier, other in enumerate(edits[:later]):
            if asks_alike(other, edit) and answers_alike(other, edit):
                return f"Edits {earlier + 1} and {later + 1} of the list are the same: {edit.prompt!r}. Keep one."
        for text in wordings(edit):
            for earlier, other in enumerate(edits[:later]):
                if text in wordings(other) and not answers_alike(other, edit):
                    return (
                        f"Edits {earlier + 1} and {later + 1} of the list contradict each other: {text!r} shall be "
                        f"{other.target!r} and {edit.target!r}. Keep one of them."
                    )
    return None


def settled(edits: Sequence[Edit], on_conflict: OnConflict, repeats: bool) -> Settled:
    """What becomes of the edits of a file or of parts: each beside all that stay so far."""
    found, there = Settled(), list[int]()
    for later, edit in enumerate(edits):
        rivals = {
            earlier: next(text for text in wordings(edit) if text in wordings(edits[earlier]))
            for earlier in there
            if set(wordings(edits[earlier])) & set(wordings(edit))
            and (not answers_alike(edits[earlier], edit) or asks_alike(edits[earlier], edit))
        }
        again = [
            earlier
            for earlier in rivals
            if answers_alike(edits[earlier], edit)
            and asks_alike(edits[earlier], edit)
            and set(wordings(edits[earlier])) == set(wordings(edit))
        ]
        if repeats and again:
            found.dropped[later] = again[0]
        elif rivals and on_conflict == "error":
            found.clashes.append(Clash(min(rivals), later, rivals[min(rivals)]))
        elif rivals and on_conflict == "keep":
            found.dropped[later] = min(rivals)
        else:
            found.dropped.update(dict.fromkeys(rivals, later))
            there = [earlier for earlier in there if earlier not in rivals] + [later]
    found.kept.extend(there)
    return found


def planned(edit: Edit, stored: Sequence[EditRecord], on_conflict: OnConflict) -> tuple[str, tuple[int, ...]]:
    """What becomes of an edit beside stored ones; those whose prompt a text is come before those that rephrase so."""
    met: list[EditRecord] = []
    for text in (edit.prompt, *edit.rephrases):
        having = [record for record in stored if same_text(text) in wordings(record)]
        having.sort(key=lambda record, text=text: same_text(record.prompt) != same_text(text))
        met += [record for record in having if record not in met]
    against = [record for record in met if not answers_alike(record, edit)]
    if against and on_conflict == "keep":
        return "kept", (against[0].id,)
    if against and on_conflict == "error":
        return f"Edit {against[0].id} already answers", ()
    again = [record for record in met if answers_alike(record, edit) and asks_alike(record, edit)]
    if again and not against and set(wordings(edit)) <= set(wordings(again[0])):
        return "unchanged", (again[0].id,)
    gone = tuple(record.id for record in [*against, *again[:1]])
    return "superseded" if gone else "added", gone


@given(lists)
def test_a_list_that_is_given(edits: list[Edit]):
    expected = refused(edits)
    if expected is None:
        check_list(edits)
        return
    with pytest.raises(EditError) as told:
        check_list(edits)
    assert str(told.value) == expected


@given(lists, st.sampled_from(WAYS), st.booleans())
def test_a_file_and_parts_to_merge(edits: list[Edit], on_conflict: OnConflict, repeats: bool):
    assert settle(edits, on_conflict, repeats=repeats) == settled(edits, on_conflict, repeats)


@given(lists, edits, st.sampled_from(WAYS))
def test_an_edit_beside_stored_ones(before: list[Edit], edit: Edit, on_conflict: OnConflict):
    history = History()
    stored = [
        EditRecord(number, one.prompt, one.target, tuple(one.rephrases), (number,), number, 0.0, 1, True, False, "then")
        for number, one in enumerate((before[i] for i in settle(before, "supersede").kept), start=1)
    ]
    history.record("edit", stored)
    action, ids = planned(edit, stored, on_conflict)
    if action not in {"added", "superseded", "kept", "unchanged"}:
        with pytest.raises(ConflictError, match=action):
            plan([edit], history, on_conflict)
        return
    (found,) = plan([edit], history, on_conflict)
    assert (found.action, found.stored) == (action, ids)
