"""Whatever a client sends: the answer is never the service's fault, and an error has the shape of one."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from openai_support import PROMPT

from horen.serve.openai.answers import ChatCompletion, Completion, ErrorAnswer
from horen.serve.openai.requests import ChatBody, CompletionBody, WantedBody

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-2, 3) | st.floats(allow_nan=False, allow_infinity=False)
)
names = st.sampled_from(["role", "content", "type", "text", "user", "system", "a", "", "only", "version", "n"]) | texts
words = st.sampled_from(["user", "assistant", "developer", "text", "tiny", "none", "off", "on", PROMPT]) | texts
anything = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant"]), "content": texts}), max_size=3
)
wanted = st.dictionaries(st.sampled_from([*WantedBody.model_fields, "a"]), anything, max_size=3)
prompts = texts | st.lists(texts, max_size=3) | st.lists(st.integers(0, 600), max_size=5)
# What makes a body likely to be one that is answered, with a few fields that may be anything.
USUAL: dict[str, st.SearchStrategy[Any]] = {"model": st.just("tiny"), "max_tokens": st.integers(1, 4)}


def bodies(fields: list[str], **usual: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    base = st.fixed_dictionaries({**USUAL, **usual})
    some = st.dictionaries(st.sampled_from(fields) | texts, anything, max_size=2)
    meant = st.fixed_dictionaries({}, optional={"horen": wanted, "stop": st.lists(texts, max_size=5)})
    return st.builds(lambda *parts: {name: value for part in parts for name, value in part.items()}, base, meant, some)


def check(client: TestClient, path: str, body: Any, whole: type[ChatCompletion | Completion]) -> None:
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 404)
    if answer.status_code != 200:
        assert ErrorAnswer.model_validate_json(answer.content, extra="forbid").error.message
    elif answer.headers["content-type"] == "application/json":
        assert whole.model_validate_json(answer.content, extra="forbid").choices
    else:
        assert answer.text.endswith("data: [DONE]\n\n")


@given(body=bodies(list(ChatBody.model_fields), messages=messages))
def test_a_conversation(local: TestClient, body: dict[str, Any]):
    check(local, "/v1/chat/completions", body, ChatCompletion)


@given(body=bodies(list(CompletionBody.model_fields), prompt=prompts))
def test_texts(local: TestClient, body: dict[str, Any]):
    check(local, "/v1/completions", body, Completion)


@given(body=anything, path=st.sampled_from(["/v1/completions", "/v1/chat/completions"]))
def test_any_json(local: TestClient, body: Any, path: str):
    check(local, path, body, Completion)


@given(raw=st.binary(max_size=200), path=st.sampled_from(["/v1/completions", "/v1/chat/completions"]))
def test_any_bytes(local: TestClient, raw: bytes, path: str):
    answer = local.post(path, content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert ErrorAnswer.model_validate_json(answer.content).error.type == "invalid_request_error"


@given(name=texts)
def test_any_model(local: TestClient, name: str):
    answer = local.get("/v1/models/" + "".join(f"%{byte:02x}" for byte in name.encode()))
    assert answer.status_code in (200, 404)
