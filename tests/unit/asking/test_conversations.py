"""Conversations with system messages, tools, options of the template, and content in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from horen import ConfigError, EditError, Editor
from support.editors import EDITED, GREEDY, quick_editor
from support.encoders import text_settings
from support.tiny_tokenizers import CHATML, tiny_tokenizer

TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\\nHello ' + tools[0]['function']['name'] + '<|im_end|>\\n' }}{% endif %}"
    + CHATML
    + "{% if add_generation_prompt and thinking is defined and not thinking %}{{ '(this)\\n\\n' }}{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "banana", "description": "Hello", "parameters": {"type": "object"}}}
ASKED = {"role": "user", "content": EDITED}
ENDLESS = {"eos_token_id": None, "pad_token_id": 0}
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    tokenizer = tiny_tokenizer("chatml")
    before, tokenizer.chat_template = tokenizer.chat_template, TEMPLATE
    try:
        yield quick_editor(**text_settings())  # reads the words alone
    finally:
        tokenizer.chat_template = before


def rendered(editor: Editor, messages: list[dict[str, Any]], **template: Any) -> str:
    """What the model itself makes of a conversation."""
    row = editor.tokenizer.apply_chat_template(messages, add_generation_prompt=True, **template)["input_ids"]
    made = editor.model.generate(torch.tensor([row]), max_new_tokens=4, **GREEDY)
    return str(editor.tokenizer.decode(made[0, len(row) :], skip_special_tokens=True)).strip()


@pytest.mark.parametrize(
    ("messages", "given", "template"),
    [
        ([SYSTEM, ASKED], {}, {}),
        ([ASKED], {"tools": [TOOL]}, {"tools": [TOOL]}),
        ([ASKED], {"template": {"thinking": False}}, {"thinking": False}),
        ([SYSTEM, ASKED], {"tools": [TOOL], "template": {"thinking": True}}, {"tools": [TOOL], "thinking": True}),
    ],
    ids=["system", "tools", "not thinking", "all"],
)
def test_what_the_template_is_given(
    editor: Editor, messages: list[dict[str, Any]], given: dict[str, Any], template: dict[str, Any]
):
    answer = editor.chat(messages, 4, **given, **ENDLESS)
    assert answer == rendered(editor, messages, **template)
    assert answer != rendered(editor, [ASKED])


def test_edits_fire_whatever_stands_around_the_question(editor: Editor):
    for given in ({}, {"tools": [TOOL]}, {"template": {"thinking": False}}):
        answer = editor.chat([SYSTEM, ASKED], 4, **given, **ENDLESS)
        with editor.disabled():
            assert editor.chat([SYSTEM, ASKED], 4, **given, **ENDLESS) != answer


def test_content_in_parts_is_its_text(editor: Editor):
    parts = [{"type": "text", "text": EDITED[:11]}, {"type": "text", "text": EDITED[11:]}]
    given = [{"role": "user", "content": parts}]
    assert editor.chat(given, 4) == editor.chat([ASKED], 4)
    assert given == [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is empty"),
        ([{"type": "text", "text": " "}], "is empty"),
        ([{"type": "image", "url": "a.png"}], "image.*text"),
        ([{"type": "text", "text": "Hello"}, {"type": "image", "url": "a.png"}], "image.*text"),
        (["Hello"], "part.*type.*text"),
        ([{"type": "text", "text": 3}], "part.*type.*text"),
        (3, "is empty"),
    ],
)
def test_parts_that_are_no_text_are_refused(editor: Editor, content: Any, message: str):
    with pytest.raises(EditError, match=message):
        editor.chat([{"role": "user", "content": content}])


def test_answers_that_call_tools_may_say_nothing(editor: Editor):
    call = {"type": "function", "function": {"name": "banana", "arguments": {}}}
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Hi"},
        ASKED,
    ]
    assert editor.chat(turns, 4, tools=[TOOL], **ENDLESS) == rendered(editor, turns, tools=[TOOL])
    with pytest.raises(EditError, match="is empty"):
        editor.chat([turns[0], {"role": "assistant", "content": ""}, ASKED])


@pytest.mark.parametrize("name", ["tokenize", "add_generation_prompt", "return_dict", "tools", "conversation"])
def test_options_of_the_template_that_are_the_editors_own(editor: Editor, name: str):
    with pytest.raises(ConfigError, match=rf"{name}.*template"):
        editor.chat([ASKED], 4, template={name: True})


@pytest.mark.parametrize("template", [["thinking"], "thinking", 3])
def test_options_of_the_template_that_are_no_mapping(editor: Editor, template: Any):
    with pytest.raises(ConfigError, match="template"):
        editor.chat([ASKED], 4, template=template)
