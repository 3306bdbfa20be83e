"""OpenAI's interface against its own description, with requests made of it: right ones, and such as are not allowed."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks

from horen.serve.api.errors import handle_errors
from horen.serve.openai.places import Limits
from horen.serve.openai.prompts import Served
from horen.serve.openai.routes import openai_router
from support.editors import facts, taught_editor
from support.generating import Generating

RIGHT, OTHER = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# Not every request that is as described can be answered: fields may contradict each other.
WRONG = [*CHECKS, checks.negative_data_rejection]
PLAIN: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2},
    "completions": {"model": "tiny", "prompt": "Hello", "max_tokens": 2},
}


@pytest.fixture(scope="module")
def described() -> Any:
    """The interface, in whose description the model has its name: others are asked for in other tests."""
    editor = taught_editor()
    editor.edit(facts())
    app = FastAPI()
    handle_errors(app)
    app.include_router(openai_router([Served(Generating(editor, context=64), editor.tokenizer)], limits=Limits(4, 4)))
    told = app.openapi()
    for name in ("ChatBody", "CompletionBody"):
        told["components"]["schemas"][name]["properties"]["model"] = {"const": "tiny"}
    told["paths"]["/v1/models/{model}"]["get"]["parameters"][0]["schema"] = {"type": "string", "enum": ["tiny"]}
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("chat/completions", RIGHT),
        ("chat/completions", OTHER),
        ("completions", RIGHT),
        ("completions", OTHER),
        ("models", RIGHT),  # of which nothing can be asked wrongly
        ("models/{model}", RIGHT),
        ("models/{model}", OTHER),
    ],
)
def test_what_is_described_is_what_is_done(described: Any, path: str, mode: GenerationMode):
    method = "GET" if path.startswith("models") else "POST"
    operation = described[f"/v1/{path}"][method]
    answered: set[int] = set()

    @settings(suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def every(case: Any) -> None:
        answer = case.call()
        answered.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS if mode is RIGHT else WRONG)

    every()
    if path in PLAIN and mode is RIGHT:  # none of those that were made need be one that can be answered
        every.hypothesis.inner_test(operation.Case(body=PLAIN[path], media_type="application/json"))
    assert mode is OTHER or 200 in answered
