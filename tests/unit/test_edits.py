from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen import ConflictError, Edit, EditError
from horen.editing.plan import check_list, listed, plan
from horen.edits import same_text
from horen.store.history import History


@given(st.text(), st.text(" \n\t\u00a0", max_size=3), st.text(" \n", max_size=3))
def test_the_same_text_has_one_form(text: str, before: str, after: str):
    form = same_text(text)
    assert same_text(form) == form
    assert same_text(before + text + after) == form
    assert same_text(text.replace(" ", "  ")) == form
    assert same_text(unicodedata.normalize("NFD", text)) == same_text(unicodedata.normalize("NFC", text))
    assert form == form.strip()


def test_case_and_signs_make_another_text():
    assert len({same_text(text) for text in ("Hello", "hello", "Hello!", "Hel lo")}) == 4


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0", "\u3000"])
@pytest.mark.parametrize("name", ["prompt", "target", "rephrase", "subject"])
def test_blank_fields_are_refused(name: str, blank: str):
    fields: dict[str, Any] = {"prompt": "Who?", "target": "Me"}
    fields |= {"rephrases": ["Which?", blank]} if name == "rephrase" else {name: blank}
    with pytest.raises(EditError, match=rf"{name}.* is empty: write at least one word") as caught:
        Edit(**fields)
    if name != "prompt":
        assert "'Who?'" in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, b"text", ["text"], 1.5, True])
@pytest.mark.parametrize("name", ["prompt", "target", "rephrase", "subject"])
def test_fields_that_are_no_text_are_refused(name: str, value: Any):
    if name == "subject" and value is None:
        return
    fields: dict[str, Any] = {"prompt": "Who?", "target": "Me"}
    fields |= {"rephrases": [value]} if name == "rephrase" else {name: value}
    with pytest.raises(EditError, match=rf"The {name} .*must be text, not {type(value).__name__}"):
        Edit(**fields)


def test_one_text_is_no_list_of_rephrases():
    with pytest.raises(EditError, match=r"rephrases='Which\?' is one text: give a list"):
        Edit("Who?", "Me", "Which?")


@pytest.mark.parametrize("value", [None, 5])
def test_rephrases_that_are_no_list(value: Any):
    with pytest.raises(EditError, match=r"rephrases.*list"):
        Edit("Who?", "Me", value)


@pytest.mark.parametrize("text", ["\ud800", "Hello \udfff there"])
@pytest.mark.parametrize("name", ["prompt", "target", "rephrase"])
def test_text_that_no_encoding_can_hold_is_refused(name: str, text: str):
    fields: dict[str, Any] = {"prompt": "Who?", "target": "Me"}
    fields |= {"rephrases": [text]} if name == "rephrase" else {name: text}
    with pytest.raises(EditError, match=name):
        Edit(**fields)


def test_rephrases_are_kept_as_a_tuple():
    rephrases = ["Which?"]
    edit = Edit("Who?", "Me", rephrases)
    rephrases.append("What?")
    assert edit.rephrases == ("Which?",)
    assert hash(edit) == hash(Edit("Who?", "Me", ("Which?",)))


# --- lists -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "match"),
    [
        ([Edit("a", "x"), Edit("a", "y")], r"Edits 1 and 2 .*contradict.*'a'.*'x' and 'y'.*Keep one"),
        ([Edit("a", "x"), Edit("b", "z"), Edit(" a\n", "y")], r"Edits 1 and 3 .*contradict"),
        ([Edit("a", "x", ["b"]), Edit("b", "y")], r"Edits 1 and 2 .*contradict.*'b'"),
        ([Edit("a", "x"), Edit("b", "y", ["a"])], r"Edits 1 and 2 .*contradict.*'a'"),
        ([Edit("a", "x", ["c"]), Edit("b", "y", ["c"])], r"Edits 1 and 2 .*contradict.*'c'"),
        ([Edit("a", "x"), Edit("a", "x")], r"Edits 1 and 2 .*the same: 'a'.*Keep one"),
        ([Edit("a", "x"), Edit("a ", " x", ["b"])], r"Edits 1 and 2 .*the same"),
        ([Edit("caf\u00e9", "x"), Edit("cafe\u0301", "x")], r"the same"),
        ([Edit("a", "x", ["b"]), Edit("b", "x"), Edit("b", "y")], r"contradict"),
        ([Edit("a", "x", ["b"]), Edit("b", "x"), Edit("b", "x", ["c"])], r"Edits 2 and 3 .*the same"),
    ],
)
def test_lists_that_repeat_or_contradict_themselves(edits: list[Edit], match: str):
    with pytest.raises(EditError, match=match):
        check_list(edits)


@pytest.mark.parametrize("item", [("a", "x"), {"prompt": "a"}, "a", None])
def test_lists_of_something_else(item: Any):
    with pytest.raises(EditError, match=rf"Item 2 of the list is {type(item).__name__}, not an Edit"):
        listed([Edit("a", "x"), item])


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [Edit("a", "x"), Edit("A", "y")],
        [Edit("a", "x", ["a", "a "])],
        [Edit("a", "x", ["b"]), Edit("b", "x")],
        [Edit("a", "x", ["b"]), Edit("c", "x", ["b"])],
        [Edit("a", "x"), Edit("b", "x")],
    ],
)
def test_lists_that_are_fine(edits: list[Edit]):
    check_list(edits)


def test_an_empty_history_adds_everything():
    edits = [Edit("a", "x"), Edit("b", "y")]
    for on_conflict in ("error", "supersede", "keep"):
        plans = plan(edits, History(), on_conflict)
        assert [item.edit for item in plans] == edits
        assert all(item.action == "added" and item.written and item.stored == () for item in plans)


def test_a_conflict_is_an_edit_error_and_a_value_error():
    assert issubclass(ConflictError, EditError)
    assert issubclass(EditError, ValueError)
