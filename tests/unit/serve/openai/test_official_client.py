"""The interface as OpenAI's own client sees it, over HTTP."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai_support import CHAT, CHAT_TARGET, OTHER, PROMPT, TARGET, Service

from support.tiny_models import answer_to
from support.tiny_tokenizers import tiny_tokenizer

LONG = {"stop": None, "temperature": 1.5, "max_tokens": 40}


def joined(chunks: list[Any], index: int = 0) -> str:
    """The text of one answer of a stream."""
    found = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join((c.delta.content or "") if hasattr(c, "delta") else c.text for c in found)


# --- answers -----------------------------------------------------------------------------------------------------


def test_a_conversation_is_answered_by_its_edit(service: Service):
    found = service.chat()
    (choice,) = found.choices
    assert (choice.message.role, choice.message.content) == ("assistant", CHAT_TARGET)
    assert choice.finish_reason == "stop"
    assert choice.horen["edit"] == 2
    assert choice.horen["score"] > 0.9
    assert choice.horen["version"] == 1
    assert found.id.startswith("chatcmpl-")
    assert found.object == "chat.completion"
    assert found.model == "tiny"
    assert found.system_fingerprint.startswith("horen-")
    prompt = tiny_tokenizer().apply_chat_template([{"role": "user", "content": CHAT}], add_generation_prompt=True)
    assert found.usage.prompt_tokens == len(prompt["input_ids"])
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_texts_are_continued_each_with_what_answers_it(service: Service):
    ids = tiny_tokenizer()(PROMPT)["input_ids"]
    for prompt in ([PROMPT, OTHER], [ids, tiny_tokenizer()(OTHER)["input_ids"]]):
        found = service.complete(prompt)
        assert [choice.text.strip() for choice in found.choices] == [TARGET, answer_to(OTHER)]
        assert [choice.horen and choice.horen["edit"] for choice in found.choices] == [1, None]
        assert [choice.index for choice in found.choices] == [0, 1]
        assert found.usage.prompt_tokens == len(ids) + len(tiny_tokenizer()(OTHER)["input_ids"])
    assert service.complete(ids).choices[0].text == service.complete(PROMPT).choices[0].text


def test_a_stream_says_the_same_and_tells_the_edit_once(service: Service):
    whole = service.chat()
    chunks = list(service.chat(stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == whole.choices[0].message.content
    told = [choice.horen for chunk in chunks for choice in chunk.choices if "horen" in choice.model_extra]
    assert told == [whole.choices[0].horen]
    assert "horen" in chunks[0].choices[0].model_extra
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])
    text = service.complete()
    pieces = list(service.complete(stream=True))
    assert joined(pieces) == text.choices[0].text
    assert [c.choices[0].horen for c in pieces if "horen" in c.choices[0].model_extra] == [text.choices[0].horen]
    assert all(not piece.usage for piece in pieces)


def test_several_prompts_stream_side_by_side(service: Service):
    chunks = list(service.complete([PROMPT, OTHER], n=2, stream=True))
    assert [joined(chunks, index).strip() for index in range(4)] == [TARGET] * 2 + [answer_to(OTHER)] * 2
    told = {c.index: c.horen for chunk in chunks for c in chunk.choices if "horen" in c.model_extra}
    assert [bool(told[index]) for index in range(4)] == [True, True, False, False]


def test_a_seed_gives_the_same_again_and_its_answers_differ(service: Service):
    given = {"prompt": "Hello", "temperature": 1.8, "max_tokens": 12, "n": 4, "seed": 7}
    one, two = (service.complete(**given) for _ in range(2))
    assert [choice.text for choice in one.choices] == [choice.text for choice in two.choices]
    assert len({choice.text for choice in one.choices}) > 1
    other = service.complete(**{**given, "seed": 8})
    assert [choice.text for choice in other.choices] != [choice.text for choice in one.choices]


def test_no_temperature_or_no_top_p_takes_the_likeliest(service: Service):
    wanted = service.complete("Hello", max_tokens=8).choices[0].text
    for chance in ({"temperature": 1e-300}, {"temperature": 2, "top_p": 0}, {"temperature": 2, "top_p": 1e-9}):
        assert service.complete("Hello", max_tokens=8, **chance).choices[0].text == wanted


def test_stop_texts_end_an_answer_before_them(service: Service):
    whole = service.complete()
    assert TARGET == "Mira Sand"
    for stop in (" Sand", ["nowhere", "Sand"], ["a S"]):
        given = stop if isinstance(stop, str) else min((s for s in stop if s in whole.choices[0].text), key=len)
        before = whole.choices[0].text.partition(given)[0]
        found = service.complete(stop=stop)
        assert (found.choices[0].text, found.choices[0].finish_reason) == (before, "stop")
        assert joined(list(service.complete(stop=stop, stream=True))) == before


def test_an_answer_ends_at_its_limit(service: Service):
    for name in ("max_tokens", "max_completion_tokens"):
        found = service.chat(**{name: 1})
        assert (found.choices[0].finish_reason, found.usage.completion_tokens) == ("length", 1)
    assert service.complete("Hello", temperature=2.0, seed=3, max_tokens=None).usage.completion_tokens <= 16


def test_log_probabilities_in_chat(service: Service):
    found = service.chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert "".join(one.token for one in found[:-1]) == CHAT_TARGET  # the last ends the answer
    for one in found:
        assert len(one.top_logprobs) == 3
        assert one.logprob == max(top.logprob for top in one.top_logprobs)
        assert bytes(one.bytes).decode() == one.token
    alone = service.chat(logprobs=True).choices[0].logprobs.content
    assert [one.logprob for one in alone] == pytest.approx([one.logprob for one in found])
    assert all(one.top_logprobs == [] for one in alone)
    assert service.chat().choices[0].logprobs is None
    chunks = list(service.chat(logprobs=True, top_logprobs=3, stream=True))
    told = [one for c in chunks for choice in c.choices if choice.logprobs for one in choice.logprobs.content]
    assert [one.token for one in told] == [one.token for one in found]


def test_log_probabilities_of_continuations(service: Service):
    found = service.complete(logprobs=2).choices[0]
    assert "".join(found.logprobs.tokens[:-1]) == found.text
    for token, logprob, top in zip(
        found.logprobs.tokens, found.logprobs.token_logprobs, found.logprobs.top_logprobs, strict=True
    ):
        assert top[token] == logprob == max(top.values())
    assert [found.text[at:][:1] for at in found.logprobs.text_offset[:-1]] == [t[0] for t in found.logprobs.tokens[:-1]]
    streamed = [c.choices[0].logprobs for c in service.complete(logprobs=2, stream=True) if c.choices[0].logprobs]
    assert [at for one in streamed for at in one.text_offset] == found.logprobs.text_offset


# --- which edits may answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "edit"),
    [
        ({}, 1),
        ({"edits": "on", "version": 1}, 1),
        ({"edits": "off"}, None),
        ({"version": 0}, None),
        ({"only": [1, 5]}, 1),
        ({"only": [2]}, None),
        ({"only": []}, None),
        ({"without": [2]}, 1),
        ({"without": [1]}, None),
    ],
)
def test_a_request_says_which_edits_may_answer(service: Service, wanted: dict[str, Any], edit: int | None):
    (choice,) = service.complete(extra_body={"horen": wanted}).choices
    assert (choice.horen and choice.horen["edit"]) == edit
    assert choice.text.strip() == (TARGET if edit else answer_to(PROMPT))
    assert service.events[0].fired is None or service.events[0].fired.edit == edit


# --- what is told afterwards -------------------------------------------------------------------------------------


def test_each_finished_answer_is_told(service: Service):
    service.chat()
    service.complete([PROMPT, OTHER], n=2)
    list(service.complete(stream=True))
    assert [event.prompt for event in service.events] == [CHAT, PROMPT, PROMPT, OTHER, OTHER, PROMPT]
    assert [event.fired and event.fired.edit for event in service.events] == [2, 1, 1, None, None, 1]
    for event in service.events:
        assert event.finish == "stop"
        assert event.prompt_tokens > 0 < event.completion_tokens
        assert 0 < event.first <= event.seconds < 60


# --- models ------------------------------------------------------------------------------------------------------


def test_models_are_listed(service: Service):
    client = service.client()
    assert [model.id for model in client.models.list()] == ["tiny", "slow"]
    assert client.models.retrieve("slow").object == "model"
    for name in ("gone", "a/b", "ü", "a b"):
        with pytest.raises(openai.NotFoundError, match="ask tiny or slow") as caught:
            client.models.retrieve(name)
        assert caught.value.code == "model_not_found"


def test_another_model_is_not_found(service: Service):
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt'") as caught:
        service.chat(model="gpt")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert service.complete(model="slow").model == "slow"
