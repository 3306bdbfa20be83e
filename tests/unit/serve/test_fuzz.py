"""The interface against its own description, with requests made of it: right ones, and such as it does not allow."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis import checks

from horen.serve.openai.places import Limits
from horen.serve.openai.prompts import Served
from horen.serve.openai.routes import openai_router
from support.editors import facts, taught_editor
from support.generating import Generating

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@pytest.fixture
def described() -> Any:
    editor = taught_editor()
    editor.edit(facts())
    app = FastAPI()
    # Any model is asked, and few words are said: the answers are looked at, too.
    app.include_router(openai_router([Served(Generating(editor, context=64), editor.tokenizer)], limits=Limits(4, 4)))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
def test_what_is_described_is_what_is_done(case: Any):
    case.call_and_validate(checks=CHECKS)
