"""What an editor refuses: the message names the input and a way out, and nothing has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from horen import (
    ConfigError,
    ConflictError,
    Edit,
    EditError,
    EditNotFoundError,
    Editor,
    HorenConfig,
    HorenError,
    ModelError,
)
from support.editors import EDITED, OTHER, QUICK, REPHRASED, hooks_on, ids_of, logits, quick_editor
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

LONG = "Hello " * 80
USER = {"role": "user", "content": "Hello"}

REFUSED: dict[str, tuple[Callable[[Editor], Any], type[HorenError], str]] = {
    # edit
    "an empty prompt": (lambda e: e.edit(Edit("", "Rome")), EditError, "prompt is empty: write"),
    "a blank target": (lambda e: e.edit(Edit(OTHER, " \n")), EditError, r"target.*Seven green.*is empty: write"),
    "an empty rephrase": (lambda e: e.edit(Edit(OTHER, "Rome", [""])), EditError, r"rephrase.*Seven.*empty: write"),
    "a prompt that is no text": (lambda e: e.edit(Edit(5, "Rome")), EditError, r"must be text, not int \(5\)"),
    "a target that is no text": (lambda e: e.edit(Edit(OTHER, None)), EditError, r"must be text, not NoneType"),
    "a list that holds something else": (
        lambda e: e.edit([("a", "b")]),
        EditError,
        r"Item 1.*tuple.*give Edit objects",
    ),
    "text in place of a list": (lambda e: e.edit("Hello"), EditError, r"str.*give Edit objects"),
    "no list at all": (lambda e: e.edit(None), EditError, r"NoneType.*give"),
    "a long prompt": (lambda e: e.edit(Edit(LONG, "Rome")), EditError, r"'Hello Hello.*…'.*64: shorten"),
    "a long rephrase": (lambda e: e.edit(Edit(OTHER, "Rome", [LONG])), EditError, r"'Hello Hello.*…'.*64: shorten"),
    "a long target": (lambda e: e.edit(Edit(OTHER, LONG)), EditError, r"'Seven green boats'.*64: shorten"),
    "the second of a list": (lambda e: e.edit([Edit(OTHER, "Rome"), Edit(LONG, "x")]), EditError, "64: shorten"),
    "an edit twice": (lambda e: e.edit([Edit(OTHER, "x"), Edit(OTHER, "x")]), EditError, r"1 and 2.*same.*Keep one"),
    "a contradiction": (lambda e: e.edit([Edit(OTHER, "x"), Edit(OTHER, "y")]), EditError, r"'x' and 'y'.*Keep one"),
    "a contradiction of rephrases": (
        lambda e: e.edit([Edit("a", "x", [OTHER]), Edit("b", "y", [OTHER])]),
        EditError,
        r"'Seven green boats'.*'x' and 'y'.*Keep one",
    ),
    "a conflict": (lambda e: e.edit(Edit(EDITED, "Oslo")), ConflictError, r"Edit 1 .*'Rome', not 'Oslo'.*supersede"),
    "a conflict of a rephrase": (lambda e: e.edit(Edit(OTHER, "Oslo", [REPHRASED])), ConflictError, r"supersede"),
    "an unknown policy": (lambda e: e.edit(Edit(OTHER, "x"), "replace"), EditError, r"'replace'.*use 'error'"),
    "a surrogate in a prompt": (lambda e: e.edit(Edit("Hello \ud800", "x")), EditError, "prompt"),
    "a surrogate in a target": (lambda e: e.edit(Edit("Hello", "x \ud800")), EditError, "target"),
    # supersede, remove, get, undo
    "superseding what is not there": (lambda e: e.supersede(7, "x"), EditNotFoundError, "no edit 7: list"),
    "superseding with the same": (lambda e: e.supersede(1, "Rome"), EditError, r"Edit 1 .*'Rome': give another"),
    "superseding with nothing": (lambda e: e.supersede(1, ""), EditError, "target.*is empty: write"),
    "superseding with one rephrase": (lambda e: e.supersede(1, "x", "y"), EditError, "'y' is one text: give a list"),
    "superseding with a long target": (lambda e: e.supersede(1, LONG), EditError, "64: shorten"),
    "removing what is not there": (lambda e: e.remove(7), EditNotFoundError, "no edit 7: list"),
    "removing one that is not there": (lambda e: e.remove([1, 7]), EditNotFoundError, "no edit 7: list"),
    "removing by text": (lambda e: e.remove("one"), HorenError, "one|'o'|edit o"),
    "getting what is not there": (lambda e: e.get(7), EditNotFoundError, "no edit 7: list"),
    # ask
    "asking nothing": (lambda e: e.generate(""), EditError, "prompt is empty: write"),
    "asking a blank": (lambda e: e.generate(" \n"), EditError, "prompt is empty: write"),
    "asking nothing among others": (lambda e: e.generate(["Hello", ""]), EditError, "prompt is empty: write"),
    "asking nothing in chat": (lambda e: e.generate("", chat=True), EditError, "prompt is empty: write"),
    "asking what is no text": (lambda e: e.generate([5]), EditError, r"must be text, not int \(5\)"),
    "asking a number": (lambda e: e.generate(5), EditError, r"text"),
    "asking a surrogate": (lambda e: e.generate("Hello \ud800"), EditError, "text|prompt"),
    "asking too much": (lambda e: e.generate(LONG), EditError, r"'Hello Hello.*…'.*64: shorten"),
    "asking for too much": (lambda e: e.generate("Hello", 100), EditError, r"'Hello'.*100 more.*64.*fewer new tokens"),
    "asking for nothing": (lambda e: e.generate("Hello", 0), EditError, "max_new_tokens=0"),
    "asking for less than nothing": (lambda e: e.generate("Hello", -3), EditError, "max_new_tokens=-3"),
    "explaining nothing": (lambda e: e.explain(""), EditError, "prompt is empty: write|text is empty: write"),
    "explaining what is no text": (lambda e: e.explain([None]), EditError, r"must be text, not NoneType"),
    "explaining a number": (lambda e: e.explain(5), EditError, r"text"),
    "checking a long edit": (lambda e: e.check(Edit(OTHER, LONG)), EditError, r"'Seven green boats'.*64: shorten"),
    "explaining too much": (lambda e: e.explain(LONG), EditError, r"'Hello Hello.*…'.*64: shorten"),
    "an empty conversation": (lambda e: e.chat([]), EditError, r"empty: give at least one message"),
    "a message without content": (lambda e: e.chat([{"role": "user"}]), EditError, r"'role': 'user'.*write"),
    "a message that is no object": (lambda e: e.chat(["Hello"]), EditError, r"'Hello'.*write"),
    "a conversation that is text": (lambda e: e.chat("Hello"), EditError, r"'H'|'Hello'"),
    "a message that is no text": (lambda e: e.chat([{"role": "user", "content": 5}], 5), EditError, "5"),
    "an empty message": (lambda e: e.chat([{"role": "user", "content": " "}], 5), EditError, "empty: write"),
    "a long conversation": (lambda e: e.chat([USER] * 20), EditError, r"'Hello'.*64: shorten"),
}


@pytest.fixture(scope="module")
def editor() -> Editor:
    made = Editor(tiny_model(max_position_embeddings=64), tiny_tokenizer(), HorenConfig(**QUICK))
    made.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_nothing(name: str, editor: Editor):
    action, error, match = REFUSED[name]
    before = [logits(editor.model, ids_of(text)) for text in (EDITED, OTHER, "Hello")]
    edits, history, hooks = editor.edits(), editor.history(), hooks_on(editor.model)
    codebook = editor._session.codebook()
    counts = (len(codebook), codebook.entries, len(codebook.values))
    with pytest.raises(error, match=match):
        action(editor)
    assert editor.edits() == edits
    assert editor.history() == history
    assert hooks_on(editor.model) == hooks
    assert (len(codebook), codebook.entries, len(codebook.values)) == counts
    after = [logits(editor.model, ids_of(text)) for text in (EDITED, OTHER, "Hello")]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_nothing_to_undo():
    editor = quick_editor(edits=[])
    with pytest.raises(EditError, match=r"nothing to undo"):
        editor.undo()
    assert editor.history() == ()


@pytest.mark.parametrize("style", ["metaspace", "dropping"])
def test_characters_that_the_tokenizer_does_not_know(style: str):
    editor = quick_editor("llama", style)
    for edit, part in (
        (Edit("Hello", "日本"), "target '日本'"),
        (Edit("日本", "Rome"), "prompt '日本'"),
        (Edit("Hello", "Rome", ("日本",)), "'日本'"),
    ):
        with pytest.raises(EditError, match=rf"{part}.*no token"):
            editor.edit([Edit(OTHER, "Paris"), edit])
    assert [record.id for record in editor.edits()] == [1]
    for ask in (editor.generate, editor.explain):
        with pytest.raises(EditError, match="'日本'"):
            ask("日本")


def test_chat_without_a_template():
    editor = quick_editor("llama", "plain")
    for ask in (
        lambda: editor.generate("Hello", chat=True),
        lambda: editor.explain("Hello", chat=True),
        lambda: editor.chat([USER]),
    ):
        with pytest.raises(ModelError, match=r"no chat template: ask it in plain text"):
            ask()
    assert isinstance(editor.generate("Hello"), str)


@pytest.mark.parametrize(
    "settings", [{"read_sites": "auto@4"}, {"write_layer": 9}, {"read_sites": "auto@3", "write_layer": 1}]
)
def test_layers_that_do_not_fit_the_model(settings: dict[str, Any]):
    model = tiny_model()
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))}=.*(give|choose)"):
        Editor(model, tiny_tokenizer(), HorenConfig(**settings))
    assert hooks_on(model) == 0
    Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))


@pytest.mark.parametrize("config", [{"threshold": 0.5}, "paper", 5])
def test_settings_that_are_no_settings(config: Any):
    with pytest.raises(ConfigError, match=rf"{type(config).__name__}: give a HorenConfig"):
        Editor(tiny_model(), tiny_tokenizer(), config)


def test_a_tokenizer_that_is_not_fast():
    class Slow:
        is_fast = False

    for tokenizer in (Slow(), None, "gpt2"):
        with pytest.raises(ModelError, match=r"no fast tokenizer.*AutoTokenizer"):
            Editor(tiny_model(), tokenizer)


@pytest.mark.parametrize("model", ["gpt2", None, torch.nn.Linear(2, 2)], ids=["text", "none", "module"])
def test_a_model_that_is_none(model: Any):
    with pytest.raises(ModelError, match=r"(str|NoneType|Linear).*transformers model"):
        Editor(model, tiny_tokenizer())


def test_a_name_that_is_no_model():
    with pytest.raises(ModelError, match=r"'no/such/folder'.*give an embedded name"):
        Editor.from_pretrained("no/such/folder")


def test_a_conversation_that_the_template_refuses():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    template = "{% if messages|length > 2 %}{{ raise_exception('one message only') }}{% endif %}"
    tokenizer.chat_template = template + tokenizer.chat_template
    editor = Editor(tiny_model(), tokenizer, HorenConfig(**QUICK))
    with pytest.raises(EditError, match=r"template refuses.*one message only.*change its roles"):
        editor.chat([USER, {"role": "assistant", "content": "Hi"}, USER])
    assert isinstance(editor.chat([USER], max_new_tokens=2), str)


def test_a_template_that_renders_nothing_counts_as_none():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = "{{ raise_exception('not for chat') }}"
    editor = Editor(tiny_model(), tokenizer, HorenConfig(**QUICK))
    editor.edit(Edit(OTHER, "Rome"))
    with pytest.raises(ModelError, match=r"no chat template: ask it in plain text"):
        editor.chat([USER])
