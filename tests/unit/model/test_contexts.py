from __future__ import annotations

from typing import Any

import pytest

from horen import Edit, EditError, HorenConfig
from horen.model.contexts import Contexts
from support.editors import EDITED, chat_ids, ids_of
from support.tiny_models import tiny_model
from support.tiny_tokenizers import CHAT_STYLES, STYLES, tiny_tokenizer

PARAGRAPHS = ("Seven green boats. It is blue.", "Toko Yasuda plays the guitar.", "She lives in Oslo with two cats.")
SEVERAL, PROMPT = HorenConfig(contexts="several"), HorenConfig(contexts="prompt")


def contexts(style: str = "chatml", family: str = "llama", **more: Any) -> Contexts:
    return Contexts(tiny_model(family, style, **more), tiny_tokenizer(style), PARAGRAPHS)


@pytest.mark.parametrize("style", STYLES)
def test_plain_text_is_encoded_as_the_tokenizer_does(style: str):
    assert contexts(style).plain(EDITED) == ids_of(EDITED, style)


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_chat_is_rendered_up_to_the_answer(style: str):
    assert contexts(style).has_chat
    assert contexts(style).chat([{"role": "user", "content": "Hello"}]) == chat_ids("Hello", style=style)


def test_wordings_are_the_prompt_and_its_rephrases_once_each():
    rows = contexts().wordings(Edit(EDITED, "Rome", ("Hello", EDITED, "Hello")))
    assert rows == [ids_of(EDITED), ids_of("Hello")]


@pytest.mark.parametrize("style", STYLES)
def test_a_sample_is_what_stands_in_the_whole_text(style: str):
    (sample,) = contexts(style).samples(Edit(EDITED, "Mira Sand"), PROMPT)
    end = tiny_tokenizer(style).eos_token_id
    assert [*sample.prompt, *sample.target] == [*ids_of(f"{EDITED} Mira Sand", style), end]
    assert list(sample.prompt) == ids_of(EDITED, style)


def test_without_the_end():
    (sample,) = contexts().samples(Edit(EDITED, "Rome"), PROMPT.replace(train_end=False))
    assert [*sample.prompt, *sample.target] == ids_of(f"{EDITED} Rome")


@pytest.mark.parametrize("prompt", [f"{EDITED} ", f"{EDITED}\n"])
def test_no_second_blank(prompt: str):
    (sample,) = contexts().samples(Edit(prompt, "Rome"), PROMPT.replace(train_end=False))
    assert tiny_tokenizer().decode([*sample.prompt, *sample.target]) == f"{prompt}Rome"


def test_no_blank_where_the_script_has_none():
    (sample,) = contexts().samples(Edit("フランスの首都は", "ローマ"), PROMPT.replace(train_end=False))
    assert tiny_tokenizer().decode([*sample.prompt, *sample.target]) == "フランスの首都はローマ"


def test_several_contexts():
    edit = Edit(EDITED, "Rome", ("Hello",))
    samples = contexts().samples(edit, SEVERAL)
    prompts = [tiny_tokenizer().decode(sample.prompt) for sample in samples]
    assert EDITED in prompts
    assert "Hello" in prompts
    assert any(text.endswith(EDITED) and text.startswith(PARAGRAPHS) for text in prompts)
    assert [list(sample.prompt) for sample in samples[-2:]] == [chat_ids(EDITED), chat_ids("Hello")]
    end = tiny_tokenizer().eos_token_id
    for sample in samples:
        assert tiny_tokenizer().decode(sample.target[:-1]).strip() == "Rome"
        assert sample.target[-1] == end


def test_without_a_template_there_is_no_chat():
    assert not contexts("plain").has_chat
    assert len(contexts("plain").samples(Edit(EDITED, "Rome"), SEVERAL)) == 2


def test_unasked_is_the_target_behind_the_paragraph_that_the_edit_is_asked_after():
    edit = Edit(EDITED, "Rome", ("Hello",))
    made = contexts()
    sample = made.unasked(edit, SEVERAL)
    assert sample is not None
    decode = tiny_tokenizer().decode
    prompts = [decode(one.prompt) for one in made.samples(edit, SEVERAL)]
    (asked,) = [text for text in prompts if text.startswith(PARAGRAPHS)]
    assert decode(sample.prompt).rstrip() in PARAGRAPHS
    assert asked == decode(sample.prompt) + EDITED
    assert decode(sample.target[:-1]).strip() == "Rome"
    assert sample.target[-1] == tiny_tokenizer().eos_token_id


def test_nothing_is_unasked_where_edits_are_trained_on_the_prompt_alone_or_it_does_not_fit():
    assert contexts().unasked(Edit(EDITED, "Rome"), PROMPT) is None
    assert contexts(max_position_embeddings=8).unasked(Edit("Hello", "Rome"), SEVERAL) is None


def test_contexts_depend_on_the_edit_alone():
    edit = Edit(EDITED, "Rome")
    assert contexts().samples(edit, SEVERAL) == contexts().samples(edit, SEVERAL)


@pytest.mark.parametrize(
    ("style", "plain", "chat"),
    [
        ("chatml", "<|im_end|>", "<|im_end|>"),
        ("llama3", "<|eot_id|>", "<|eot_id|>"),
        ("gemma", "<eos>", "<end_of_turn>"),
        ("plain", "</s>", "</s>"),
        ("instruct", "</s>", "</s>"),
    ],
)
def test_what_ends_an_answer(style: str, plain: str, chat: str):
    ends = contexts(style).ends
    name = tiny_tokenizer(style).convert_ids_to_tokens
    assert name(ends.plain) == plain
    assert name(ends.chat) == chat
    assert set(name(list(ends.all))) == {plain, chat}


def test_every_end_of_the_model_ends_an_answer():
    model = tiny_model()
    model.generation_config.eos_token_id = [0, 2]
    ends = Contexts(model, tiny_tokenizer(), PARAGRAPHS).ends
    assert ends.plain == 0
    assert set(ends.all) == {0, 2}


def test_a_model_without_an_end():
    model = tiny_model(style="plain")
    model.generation_config.eos_token_id = None
    assert Contexts(model, tiny_tokenizer("plain"), PARAGRAPHS).ends.plain == tiny_tokenizer("plain").eos_token_id


# --- what cannot be encoded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["metaspace", "dropping"])
@pytest.mark.parametrize("prompt", [EDITED, f"{EDITED} "], ids=["blank between", "blank in the prompt"])
@pytest.mark.parametrize("config", [SEVERAL, PROMPT], ids=["several", "prompt"])
def test_a_target_of_unknown_characters(style: str, prompt: str, config: HorenConfig):
    with pytest.raises(EditError, match=r"target '日本' .*no token.*write it with characters"):
        contexts(style).samples(Edit(prompt, "日本"), config)


@pytest.mark.parametrize("style", ["metaspace", "dropping"])
@pytest.mark.parametrize("edit", [Edit("日本", "Rome"), Edit(EDITED, "Rome", ("日本",))], ids=["prompt", "rephrase"])
def test_a_wording_of_unknown_characters(style: str, edit: Edit):
    """All such wordings would have one key, of what the tokenizer puts before every text."""
    with pytest.raises(EditError, match=r"'日本'.*no token.*write some words"):
        contexts(style).wordings(edit)


def test_a_prompt_longer_than_the_context():
    made = contexts(max_position_embeddings=32)
    with pytest.raises(EditError, match=r"'Hello.*…'.*32: shorten"):
        made.wordings(Edit("Hello " * 40, "Rome"))


def test_a_prompt_that_leaves_no_room_for_its_target():
    made = contexts(max_position_embeddings=12)
    edit = Edit("Hello Hello Hello Hello Hello", "Rome Rome Rome Rome Rome Rome Rome Rome")
    assert made.wordings(edit)
    with pytest.raises(EditError, match=r"12: shorten"):
        made.samples(edit, SEVERAL)


@pytest.mark.parametrize("target", ["Rome", "☕☕☕☕☕☕"], ids=["letters", "many tokens a character"])
def test_contexts_that_do_not_fit_are_left_out(target: str):
    """An edit that fits as plain text is written, whatever room its other contexts would need."""
    plain = len(ids_of(f"{EDITED} {target}")) + 1
    for limit in range(plain, plain + 60, 3):
        samples = contexts(max_position_embeddings=limit).samples(Edit(EDITED, target), SEVERAL)
        assert list(samples[0].prompt) == ids_of(EDITED)
        assert all(len(sample.prompt) + len(sample.target) <= limit + 1 for sample in samples)
