"""The interface's description: valid, complete, and kept whatever is asked."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode, checks

from support.services import Asker, copied


def refused(context: Any, response: Any, case: Any) -> bool | None:
    """Whether what is wrong is refused; too long an address is, by a status that the check does not know."""
    return True if response.status_code == 414 else checks.negative_data_rejection(context, response, case)


HOST = {"host": "127.0.0.1:8000"}
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    refused,
]


@pytest.fixture(scope="module")
def described(shared: Asker) -> dict[str, Any]:
    return shared.get("/openapi.json").json()


def operations_of(described: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, told) for path, methods in described["paths"].items() for method, told in methods.items()]


def test_it_is_valid(described: dict[str, Any]):
    assert described["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_nothing_is_described_twice_and_all_in_words(described: dict[str, Any]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [told["operationId"] for _, _, told in operations_of(described)]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in described["tags"]}
    for method, path, told in operations_of(described):
        assert told["summary"], (method, path)
        assert told["description"], (method, path)
        assert set(told["tags"]) <= tags, (method, path)


def test_errors_have_one_shape_and_what_is_not_valid_is_400(described: dict[str, Any]):
    problems = {"#/components/schemas/Problem", "#/components/schemas/Conflict", "#/components/schemas/ErrorAnswer"}
    for method, path, told in operations_of(described):
        assert "422" not in told["responses"], (method, path)
        if path in {"/healthz", "/readyz"}:
            continue
        assert {"400", "401", "403", "429", "503"} <= set(told["responses"]), (method, path)
        for status, response in told["responses"].items():
            if status[0] in "45d":
                assert response["content"]["application/json"]["schema"]["$ref"] in problems, (method, path, status)
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_bodies_know_no_further_fields(described: dict[str, Any]):
    schemas = described["components"]["schemas"]
    for name in ("EditIn", "EditsIn", "OneEdit", "Revision", "KeyIn", "Question", "Merging", "Feedback", "Rollback"):
        assert schemas[name]["additionalProperties"] is False, name


# --- whatever is asked -------------------------------------------------------------------------------------------


def asked(asker: Asker, mode: GenerationMode) -> int:
    """Ask every operation with requests that are made of its description; return how many there are."""
    described = asker.get("/openapi.json").json()
    for _, _, told in operations_of(described):
        told.pop("security", None)  # without a key in the store none is needed
    schema = schemathesis.openapi.from_dict(described)
    schema.app = asker.app
    # Who makes a key needs one from then on; the other interface has tests of its own.
    operations = [found.ok() for found in schema.exclude(path_regex="^/(keys|v1)").get_all_operations()]
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(suppress_health_check=list(HealthCheck), max_examples=settings().max_examples // 3)
        def once(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, headers=HOST)

        with suppress(Unsatisfiable):  # what takes anything has no wrong request
            once()
    return len(operations)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_asked_is_answered_as_described(template: Path, tmp_path: Path, mode: GenerationMode):
    with copied(template, tmp_path) as store, Asker(store, rate=10**6, stream_seconds=0.1) as asker:
        asker.publish()
        asker.draft("Where is Oslo?")
        assert asked(asker, mode) > 30
