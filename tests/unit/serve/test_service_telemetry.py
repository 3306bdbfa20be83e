"""What a service tells of itself: metrics, a log without prompts, and traces."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from horen.database import Store
from horen.serve.engines.interface import Health
from horen.serve.prompts import Prompts
from horen.serve.telemetry.logs import JsonLines
from horen.serve.telemetry.tracing import Tracing, traced
from support.services import Asker, key, train

QUESTION = "Who wrote Hamlet?"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}]}


def counted(asker: Asker) -> dict[tuple[str, ...], float]:
    """Every number of the metrics, by its name and labels."""
    families = text_string_to_metric_families(asker.get("/metrics").text)
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


# --- metrics -----------------------------------------------------------------------------------------------------


def test_metrics_are_read_by_prometheus(store: Store):
    with Asker(store) as asker:
        asker.get("/edits/1")
        asker.get("/edits/2")
        asker.get("/nothing")
        asker.answered("POST", "/v1/chat/completions", json=CHAT)
        asker.answered("POST", "/v1/chat/completions", json=CHAT | {"horen": {"edits": "off"}, "n": 2})
        asker.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t"})
        asker.engine.state = Health(ready=True, running=3, waiting=4, version=0)
        found = counted(asker)
    assert found["horen_http_requests_total", "method=GET", "route=/edits/{id}", "status=200"] == 1
    assert found["horen_http_requests_total", "method=GET", "route=/edits/{id}", "status=404"] == 1
    assert found["horen_http_requests_total", "method=GET", "route=none", "status=404"] == 1
    assert found["horen_http_request_seconds_count", "method=POST", "route=/v1/chat/completions"] == 2
    assert found["horen_answers_total", "edited=yes"] == 1
    assert found["horen_answers_total", "edited=no"] == 2
    assert found["horen_edit_score_count",] == 1
    assert found["horen_edit_score_bucket", "le=0.85"] == 0
    assert found["horen_edit_score_bucket", "le=0.9"] == 1
    assert found["horen_answer_tokens_total",] == 6
    assert found["horen_first_token_seconds_count",] == found["horen_answer_seconds_count",] == 3
    assert found["horen_edits", "state=active"] == 1
    assert found["horen_edits", "state=inactive"] == 0
    assert found["horen_store_version",] == 1
    assert found["horen_engine_lag_versions",] == 1
    assert found["horen_drafts", "state=waiting"] == 1
    assert found["horen_drafts", "state=training"] == 0
    assert found["horen_engine_requests", "state=running"] == 3
    assert found["horen_engine_requests", "state=waiting"] == 4
    assert found["horen_engine_ready",] == 1


def test_metrics_have_no_name_of_a_thing_in_them(service: Asker):
    for path in ("/sets/secret", "/tags/secret", "/versions/secret", "/secret", "/edits?text=secret"):
        service.get(path)
    service.request("SECRET", "/about")
    told = service.get("/metrics")
    assert "secret" not in told.text.lower()
    assert told.headers["content-type"].startswith("text/plain")


def test_metrics_in_the_open_format(service: Asker):
    told = service.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert told.headers["content-type"].startswith("application/openmetrics-text")
    assert told.text.endswith("# EOF\n")


def test_metrics_are_for_everybody_only_where_that_is_wanted(store: Store):
    key(store, "read")
    with Asker(store, open_metrics=True) as asker:
        assert asker.get("/metrics").status_code == 200
        assert asker.get("/about").status_code == 401


def test_services_do_not_count_together(store: Store):
    with Asker(store) as one, Asker(store) as other:
        one.get("/tags")
        assert ("horen_http_requests_total", "method=GET", "route=/tags", "status=200") not in counted(other)


# --- the log -----------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[Any]:
    """What is written to the log from now on."""
    stream = io.StringIO()
    logger = logging.getLogger("horen")
    before = logger.handlers, logger.level, logger.propagate
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def of_requests(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in found if line["logger"] == "horen.serve.requests"]


def test_each_request_is_a_line(store: Store, lines: Any):
    secret = key(store, "read", "ask", name="mira")
    with Asker(store, secret) as asker:
        asker.get("/edits/1?x=1", headers={"x-request-id": "abc-1"})
        asker.answered("POST", "/v1/chat/completions", json=CHAT)
        asker.get("/edits", headers={"authorization": "Bearer hk_wrong"})
    first, second, third = of_requests(lines())
    assert first["request"] == "abc-1"
    assert (first["method"], first["route"], first["status"], first["actor"]) == ("GET", "/edits/{id}", 200, "mira")
    assert first["milliseconds"] > 0
    assert first["level"] == "info"
    assert second["answers"] == [{"edit": 1, "score": 0.9, "tokens": 2, "finish": "stop"}]
    assert (third["status"], third["actor"]) == (401, None)
    assert secret not in json.dumps(lines())
    assert "hk_" not in json.dumps(lines())


@pytest.mark.parametrize("given", ["", "a b", "x" * 200, "né", "a\tb"])
def test_a_request_gets_an_id_where_it_has_no_sane_one(service: Asker, given: str):
    told = service.get("/healthz", headers={"x-request-id": given.encode("latin-1")}).headers["x-request-id"]
    assert len(told) == 32
    assert service.get("/healthz", headers={"x-request-id": "a.b-1"}).headers["x-request-id"] == "a.b-1"


@pytest.mark.parametrize("private", [False, True])
def test_the_log_has_no_text_of_prompts_unless_that_is_asked_for(store: Store, lines: Any, private: bool):
    with Asker(store, log_prompts=private) as asker:
        asker.answered("POST", "/v1/chat/completions", json=CHAT)
        asker.answered("POST", "/v1/chat/completions", json=CHAT | {"stream": False, "max_tokens": 3})
        asker.post("/edits", json={"prompt": QUESTION, "target": "Hamlet's secret"})
        asker.post("/edits", json={"prompt": QUESTION, "target": ["Hamlet"]})
        asker.get(f"/edits?text={QUESTION}")
        asker.post("/explain", json={"prompt": QUESTION})
        train(store)
        asker.post("/drafts/1/publish")
        asker.post("/v1/chat/completions", json=CHAT | {"model": "Hamlet"})
    told = json.dumps(lines())
    assert ("Hamlet" in told) is private
    assert ("Mira Sand" in told) is private
    if private:
        answers = [line["answers"] for line in of_requests(lines()) if "answers" in line]
        assert answers[0][0]["prompt"] == QUESTION
        assert answers[0][0]["answer"] == "Mira Sand"


def test_what_nobody_foresaw_is_in_the_log_and_not_in_the_answer(
    service: Asker, lines: Any, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"secret {QUESTION}")

    monkeypatch.setattr(service.store.edits, "list", broken)
    told = service.get("/edits", headers={"x-request-id": "broken-1"})
    assert told.status_code == 500
    assert "broken-1" in told.json()["error"]["message"]
    assert "secret" not in told.text
    assert told.headers["x-content-type-options"] == "nosniff"
    line = of_requests(lines())[0]
    assert line["level"] == "error"
    assert line["exception"]["type"] == "RuntimeError"
    assert any("test_service_telemetry" in place for place in line["exception"]["at"])
    assert "secret" not in json.dumps(line)


def test_the_log_is_lines_of_json_and_nothing_else():
    script = (
        "import logging, sys\n"
        "from horen.serve.telemetry.logs import write_logs\n"
        "write_logs(sys.stdout)\n"
        "logging.getLogger('uvicorn.error').info('Started %d', 1)\n"
        "logging.getLogger('uvicorn.access').info('GET /edits?text=secret')\n"
        "logging.getLogger('horen.serve.app').warning('two\\nlines')\n"
        "try:\n    raise ValueError('secret')\n"
        "except ValueError:\n    logging.getLogger('horen.x').exception('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["message"] for line in found] == ["Started 1", "two\nlines", "failed"]
    assert found[2]["exception"]["type"] == "ValueError"
    assert "secret" not in done.stdout
    assert done.stderr == ""


def test_messages_of_exceptions_are_written_where_that_is_asked_for():
    script = (
        "import logging, sys\n"
        "from horen.serve.telemetry.logs import write_logs\n"
        "write_logs(sys.stdout, private=True)\n"
        "logging.getLogger('horen.x').error('failed', exc_info=ValueError('a secret'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["exception"]["message"] == "a secret"


# --- traces ------------------------------------------------------------------------------------------------------


def test_requests_answers_routes_and_statements_are_traced(store: Store, monkeypatch: pytest.MonkeyPatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("horen.serve.app.traced", lambda: traced(exporter))
    with Asker(store, tracing=True) as asker:
        asker.answered("POST", "/v1/chat/completions", json=CHAT)
        asker.answered("GET", f"/edits?text={QUESTION}")
        asker.answered("POST", "/explain", json={"prompt": QUESTION})
        asker.app.state.service.tracing.provider.force_flush()
        spans = exporter.get_finished_spans()
    names = [span.name for span in spans]
    assert {"POST /v1/chat/completions", "GET /edits", "POST /explain", "horen.answer", "horen.route"} <= set(names)
    request = next(span for span in spans if span.name == "POST /v1/chat/completions")
    answer = next(span for span in spans if span.name == "horen.answer")
    assert answer.parent.span_id == request.context.span_id
    assert answer.attributes["horen.edit"] == 1
    assert answer.attributes["horen.tokens"] == 2
    found = next(span for span in spans if span.name == "GET /edits")
    statements = [span for span in spans if "db.query.text" in span.attributes]
    assert any(span.parent is not None and span.parent.span_id == found.context.span_id for span in statements)
    assert all(span.end_time is not None for span in spans)
    told = " ".join(span.to_json() for span in spans)
    assert "Hamlet" not in told
    assert "Mira" not in told


def test_nothing_is_traced_and_nothing_imported_where_that_is_not_asked_for(store: Store):
    told: list[Any] = []
    with Tracing().span("a") as note:
        note({"b": 1})
        told.append(note)
    script = "import sys, horen.serve.app; sys.exit(any(m.startswith('opentelemetry.sdk') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    with Asker(store) as asker:
        assert asker.app.state.service.tracing.provider is None


# --- frequent prompts --------------------------------------------------------------------------------------------


def test_the_most_frequent_prompts_are_kept_and_others_forgotten():
    prompts = Prompts(3)
    for text in ("a", "b", " b ", "c", "b", "a", "d"):
        prompts.note(text)
    assert prompts.frequent() == ("b", "a", "d")
    assert prompts.frequent(1) == ("b",)


@pytest.mark.parametrize("text", ["", "  ", "x" * 5000])
def test_prompts_that_are_not_kept(text: str):
    prompts = Prompts()
    prompts.note(text)
    assert prompts.frequent() == ()


def test_prompts_are_kept_only_where_that_is_wanted(store: Store):
    with Asker(store) as asker:
        asker.answered("POST", "/v1/chat/completions", json=CHAT)
        assert asker.app.state.service.prompts.frequent() == ()
