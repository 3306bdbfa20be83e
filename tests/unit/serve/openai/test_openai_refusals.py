"""What is refused: in the shape of OpenAI's interface, naming the field, what was expected and the way out."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai_support import PLACES, PROMPT, Service

from horen.serve.openai.requests import ChatBody, CompletionBody

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [USER], "max_tokens": 4, **more}


def text(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": PROMPT, "max_tokens": 4, **more}


def refused(local: TestClient, body: Any, status: int = 400, *, raw: bytes | None = None) -> dict[str, Any]:
    path = "/v1/chat/completions" if isinstance(body, dict) and "messages" in body else "/v1/completions"
    content = json.dumps(body).encode() if raw is None else raw
    answer = local.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"].endswith(".")
    assert len(error["message"]) < 400
    return error


# --- fields ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("logit_bias", {"5": 0}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}),
        ("audio", {"voice": "alloy", "format": "mp3"}),
        ("modalities", ["text", "audio"]),
        ("function_call", {"name": "look"}),
        ("functions", [{"name": "look"}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "look"}}),
        ("prediction", {"type": "content", "content": "a"}),
        ("reasoning_effort", "high"),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("moderation", {"model": "omni"}),
        ("service_tier", "priority"),
        ("store", True),
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", 1.01),
        ("n", 0),
        ("n", 1.5),
        ("max_tokens", 0),
        ("max_completion_tokens", -1),
        ("seed", 2**63),
        ("seed", 0.5),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", ""),
        ("stop", ["a", 1]),
        ("top_logprobs", 21),
        ("logprobs", 5),
        ("stream", "yes"),
        ("messages", []),
        ("messages", "Hello"),
        ("model", None),
        ("metadata", {"a": 1}),
        ("horen", "off"),
    ],
)
def test_a_field_that_is_not_done_here_is_named_in_chat(local: TestClient, field: str, given: Any):
    error = refused(local, chat(**{field: given}))
    assert error["param"].startswith(field)
    assert error["message"].startswith(field)
    assert error["code"] == "invalid_value"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("echo", True),
        ("suffix", "the end"),
        ("best_of", 3),
        ("logprobs", True),
        ("logprobs", 21),
        ("logit_bias", {"1": 1}),
        ("prompt", None),
        ("prompt", []),
        ("prompt", [[]]),
        ("prompt", [1, "a"]),
        ("prompt", ["a", 1]),
        ("prompt", [[1], 2]),
        ("prompt", [-1]),
        ("prompt", [2**40]),
        ("prompt", [True]),
        ("prompt", {"a": 1}),
        ("prompt", ""),
        ("prompt", [511, 512]),
    ],
)
def test_a_field_that_is_not_done_here_is_named_for_completions(local: TestClient, field: str, given: Any):
    error = refused(local, text(**{field: given}))
    assert str(error["param"]).startswith(field), error
    assert field in error["message"] or str(given[-1]) in error["message"]


@pytest.mark.parametrize(
    ("message", "param", "way"),
    [
        ({"role": "tool", "content": "4", "tool_call_id": "1"}, "messages[0].role", "put what a tool gave"),
        ({"role": "function", "content": "4", "name": "a"}, "messages[0].role", "say system, developer, user"),
        ({"role": 5, "content": "4"}, "messages[0].role", "say system"),
        ({"content": "4"}, "messages[0].role", "missing"),
        ({"role": "user"}, "messages[0].content", "missing"),
        ({"role": "user", "content": None}, "messages[0].content", "give a text"),
        ({"role": "user", "content": []}, "messages[0].content", "give a text"),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
            "messages[0].content[1].type",
            "only text is read here",
        ),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text", "missing"),
        ({"role": "user", "content": "a", "colour": "red"}, "messages[0].colour", "not known"),
        ({"role": "assistant", "content": "a", "tool_calls": [TOOL]}, "messages[0].tool_calls", "leave it out"),
        ("Hello", "messages[0]", "dictionary"),
    ],
)
def test_a_message_that_is_not_read_here_is_named(local: TestClient, message: Any, param: str, way: str):
    error = refused(local, chat(messages=[message]))
    assert error["param"] == param
    assert way in error["message"]


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"edits": "of"}, "horen.edits"),
        ({"edits": None}, "horen.edits"),
        ({"version": -1}, "horen.version"),
        ({"version": "1"}, "horen.version"),
        ({"only": ["1"]}, "horen.only[0]"),
        ({"only": 1}, "horen.only"),
        ({"only": [0]}, "horen.only[0]"),
        ({"without": [1, -2]}, "horen.without[1]"),
        ({"tags": [""]}, "horen.tags[0]"),
        ({"version": 1, "edit": "off"}, "horen.edit"),
        ({"tags": ["legal"]}, "horen"),
        ({"without_tags": ["legal"]}, "horen"),
        ({"without_sets": ["legal"]}, "horen"),
        ({"version": 7}, None),
    ],
)
def test_what_is_not_understood_of_edits_is_refused(local: TestClient, wanted: dict[str, Any], param: str | None):
    for body in (text(horen=wanted), text(horen=wanted, stream=True), chat(horen=wanted)):
        assert refused(local, body)["param"] == param


def test_tools_are_refused_unless_none_is_to_be_called(service: Service, local: TestClient):
    for choice in ({}, {"tool_choice": "auto"}):
        error = refused(local, chat(tools=[TOOL], **choice))
        assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
        assert "tool_choice='none'" in error["message"]
    assert service.chat(tools=[TOOL], tool_choice="none").choices[0].message.content
    assert service.chat(tools=[], tool_choice="auto", parallel_tool_calls=True).choices[0].message.content


def test_fields_that_contradict_each_other_are_refused(local: TestClient):
    assert refused(local, chat(max_completion_tokens=5))["param"] == "max_tokens"
    assert refused(local, chat(top_logprobs=2))["param"] == "top_logprobs"
    assert refused(local, chat(stream_options={"include_usage": True}))["param"] == "stream_options"
    assert refused(local, text(stream_options={}))["param"] == "stream_options"
    assert refused(local, text(best_of=1, n=2))["param"] == "best_of"
    streamed = {"stream": True, "stream_options": {"include_obfuscation": True}}
    assert refused(local, chat(**streamed))["param"] == "stream_options.include_obfuscation"


def test_unknown_fields_are_refused_and_near_ones_suggested(service: Service, local: TestClient):
    error = refused(local, chat(temprature=0))
    assert error["message"] == "temprature is not known here: did you mean temperature? Otherwise leave it out."
    assert (error["param"], error["code"]) == ("temprature", "unknown_parameter")
    assert refused(local, text(top_k=5))["param"] == "top_k"
    assert refused(local, text(messages_=[USER]))["code"] == "unknown_parameter"
    with pytest.raises(openai.BadRequestError, match="top_k is not known here"):
        service.chat(extra_body={"top_k": 5})


def test_what_is_missing_is_named(local: TestClient):
    assert refused(local, {"messages": [USER]})["param"] == "model"
    assert refused(local, {"model": "tiny"})["param"] == "prompt"
    for body in ([], "a", 5, None, True):
        assert "send a JSON object" in refused(local, body)["message"]


NEUTRAL = {
    "user": "me",
    "metadata": {"a": "b"},
    "store": False,
    "service_tier": "auto",
    "parallel_tool_calls": False,
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "tool_choice": "none",
    "tools": [],
    "functions": [],
    "function_call": "none",
    "reasoning_effort": "none",
    "verbosity": "medium",
    "prompt_cache_key": "a",
    "prompt_cache_retention": "24h",
    "safety_identifier": "a",
    "n": 1,
    "top_p": 1,
    "temperature": 1,
}


def test_what_makes_no_difference_is_taken(service: Service):
    plain = service.chat(seed=1, temperature=1).choices[0].message.content
    assert service.chat(seed=1, **NEUTRAL).choices[0].message.content == plain
    given = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "suffix": "", "echo": False, "best_of": 1}
    assert service.complete(user="me", **given).choices[0].text


def test_null_is_as_if_it_were_not_there(local: TestClient):
    for body, fields, path in (
        (chat(), ChatBody.model_fields, "chat/completions"),
        (text(), CompletionBody.model_fields, "completions"),
    ):
        nothing = {name: None for name in fields if name not in body}
        assert len(nothing) > 10
        assert local.post(f"/v1/{path}", json={**nothing, **body}).status_code == 200


def test_every_field_of_the_official_client_is_known():
    """A new release of it may bring fields: each is to be done, taken as neutral or refused in words of its own."""
    streamed = {"stream"}
    for body, types in ((ChatBody, chat_create_params), (CompletionBody, completion_create_params)):
        fields = set(types.CompletionCreateParamsNonStreaming.__annotations__)
        for kind in types.CompletionCreateParamsNonStreaming.__mro__:
            fields |= set(getattr(kind, "__annotations__", {}))
        fields |= set(getattr(types, "CompletionCreateParamsBase").__annotations__)  # noqa: B009
        assert len(fields) > 15
        assert not fields - streamed - set(body.model_fields)


# --- the sizes of things -----------------------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_too_long(service: Service, local: TestClient):
    error = refused(local, text(prompt=[5] * 256))
    assert error["code"] == "context_length_exceeded"
    assert "holds 256 tokens at most: prompt has 256." in error["message"]
    assert refused(local, text(prompt=[5] * 250, max_tokens=7))["code"] == "context_length_exceeded"
    error = refused(local, chat(messages=[USER] * 100, max_tokens=None))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert service.complete([5] * 255, max_tokens=1).usage.completion_tokens == 1
    with pytest.raises(openai.BadRequestError) as caught:
        service.complete("word " * 1000)
    assert caught.value.code == "context_length_exceeded"


def test_too_many_answers_to_one_request_are_refused(service: Service):
    for given in ({"n": PLACES + 1}, {"prompt": [PROMPT] * 9, "n": 2}):
        with pytest.raises(openai.BadRequestError, match=f"and {PLACES} may be: ask for fewer"):
            service.complete(**given)


# --- what is no request at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null{}",
        b"\xff\xfe{}",
        b'{"model": "tiny", "prompt": "\xff"}',
        '{"model": "tiny", "prompt": "ä"}'.encode("utf-16"),
        b'{"model": "tiny", "prompt": "\\ud800"}',
        b'{"model": "tiny", "prompt": "\\udc00\\ud800"}',
        b'{"model": "tiny", "prompt": "a", "\\ud800": 1}',
        b'{"model": "tiny", "prompt": "a", "temperature": NaN}',
        b'{"model": "tiny", "prompt": "a", "temperature": Infinity}',
        b'{"model": "tiny", "prompt": "a", "temperature": -Infinity}',
        b'{"model": "tiny", "prompt": "a", "temperature": 1e999}',
        b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 4000 + b"}",
        b'{"model": "tiny", "prompt": "a", "temperature": ' + b"9" * 400 + b"}",
        b'{"model": "tiny", "prompt": "a", "prompt": "b"}',
        b'{"model": "tiny", "prompt": "a", "horen": {"only": [1], "only": [2]}}',
        b'{"model": "tiny", "prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"model": "tiny", "prompt": "a", "logit_bias": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        b'{"model": "tiny", "prompt": ' + b"[" * 150 + b"]" * 150 + b"}",
        b'{"model": "tiny", "prompt": [' + b"true," * 100_000 + b"1]}",
        b'{"model": "tiny", "prompt": [' + b'"a",' * 100_000 + b"1]}",
        b"{" + b",".join(b'"a%d":1' % number for number in range(100_000)) + b"}",
        b'{"model": "tiny", "prompt": "a", "' + b"a" * 100_000 + b'": 1}',
        b'{"model": "tiny", "prompt": "a", "stop": "' + b"a" * 100_000 + b'"}',
    ],
)
def test_what_is_no_request_is_refused(local: TestClient, raw: bytes):
    refused(local, None, raw=raw)


def test_a_null_byte_is_a_character_as_any_other(local: TestClient):
    body = text(prompt="a\0b", stop="\0", user="\0")
    assert local.post("/v1/completions", json=body).status_code == 200
    assert local.post("/v1/chat/completions", json=chat(messages=[{**USER, "content": "\0"}])).status_code == 200
    assert "\\x00" in refused(local, text(model="\0"), 404)["message"]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "application/xml",
        "é",
    ],
)
def test_only_json_is_read(local: TestClient, given: str | None):
    headers = {} if given is None else {"Content-Type": given.encode()}
    answer = local.post("/v1/completions", content=json.dumps(text()), headers=headers)
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]["message"]
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert local.post("/v1/completions", content=json.dumps(text()), headers=headers).status_code == 200
