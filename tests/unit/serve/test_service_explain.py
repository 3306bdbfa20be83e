"""Why a text wakes an edit, over HTTP; and what the service says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from horen import ModelError, StoreError
from horen.database import Store
from horen.serve.engines.interface import Health, Wanted
from support.services import Asker


def test_a_text_is_explained_with_the_nearest_edits(service: Asker):
    told = service.answered("POST", "/explain", json={"prompt": "Who leads Fennick?", "nearest": 2})
    assert told["text"] == "Who leads Fennick?"
    assert told["fired"] is True
    assert [near["score"] for near in told["nearest"]] == [0.9, 0.9]
    assert service.explainer.asked == [("Who leads Fennick?", Wanted(), 2)]


def test_a_conversation_is_explained(service: Asker):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert service.answered("POST", "/explain", json={"messages": messages})["text"] == "Who?"
    assert service.explainer.asked[0][0] == messages


def test_which_edits_may_answer_is_read_in_the_store(service: Asker):
    service.answered("PUT", "/sets/arts")
    hamlet = service.publish(tags=["books"], set="arts")
    for asked, wanted in (
        ({"edits": "off"}, Wanted(on=False)),
        ({"version": 1}, Wanted(version=1)),
        ({"tags": ["books"]}, Wanted(only=frozenset({hamlet}))),
        ({"tags": ["books"], "only": [1]}, Wanted(only=frozenset())),
        ({"tags": []}, Wanted(only=frozenset())),
        ({"without_tags": ["books"]}, Wanted(only=frozenset({1}))),
        ({"without_sets": ["arts"], "without": [1]}, Wanted(only=frozenset({1}), without=frozenset({1}))),
        ({"only": [1, 7]}, Wanted(only=frozenset({1, 7}))),
    ):
        service.answered("POST", "/explain", json={"prompt": "p", "horen": asked})
        assert service.explainer.asked[-1][1] == wanted, asked


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"prompt": "p", "messages": [{"role": "user", "content": "p"}]}, None),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "judge", "content": "p"}]}, "messages[0].role"),
        ({"prompt": "p", "nearest": 0}, "nearest"),
        ({"prompt": "p", "horen": {"edits": "maybe"}}, "horen.edits"),
        ({"prompt": "p", "horen": {"tag": "x"}}, "horen.tag"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_cannot_be_explained(service: Asker, body: Any, param: str | None):
    assert service.refused("POST", "/explain", 400, json=body)["param"] == param


def test_a_name_that_no_store_can_hold(service: Asker):
    told = service.refused("POST", "/explain", 400, json={"prompt": "p", "horen": {"tags": ["a\0"]}})
    assert "null" in told["message"]


def test_an_explainer_that_fails(service: Asker, monkeypatch: pytest.MonkeyPatch):
    def gone(*_: Any) -> None:
        raise ModelError("The model is gone.")

    monkeypatch.setattr(service.explainer, "explain", gone)
    told = service.post("/explain", json={"prompt": "p"})
    assert told.status_code == 503
    assert told.json()["error"] == {
        "message": "The model is gone.",
        "type": "server_error",
        "param": None,
        "code": "model_unavailable",
    }
    assert "retry-after" in told.headers


# --- the service itself ------------------------------------------------------------------------------------------


def test_about(service: Asker):
    told = service.answered("GET", "/about")
    assert told["store"]["version"] == 1
    assert told["store"]["active"] == 1
    assert told["engine"]["model"] == "tiny"
    assert told["engine"]["ready"] is True
    assert told["service"] == {"four_eyes": False, "keep_prompts": False, "explains": True, "trains": None}


def test_health_needs_no_key_and_names_nothing(service: Asker):
    assert service.answered("GET", "/healthz") == {"status": "ok"}
    assert service.answered("GET", "/readyz") == {"ready": True, "why": ""}
    service.engine.state = Health(ready=False, why="/secret/path is broken")
    assert service.answered("GET", "/readyz", 503) == {"ready": False, "why": "The engine is not ready."}
    assert service.answered("GET", "/about")["engine"]["why"] == "/secret/path is broken"


def test_an_engine_that_does_not_say_how_it_is(service: Asker, monkeypatch: pytest.MonkeyPatch):
    async def broken() -> Health:
        raise ModelError("gone")

    monkeypatch.setattr(service.engine, "health", broken)
    assert service.answered("GET", "/readyz", 503)["ready"] is False
    assert service.answered("GET", "/about")["engine"]["why"] == "gone"


def test_a_store_that_cannot_be_read(service: Asker, monkeypatch: pytest.MonkeyPatch):
    def gone() -> None:
        raise StoreError("facts.db cannot be reached: start the database.")

    class Gone:
        version = property(lambda _: gone())

    assert service.get("/about").status_code == 200
    monkeypatch.setattr(type(service.store), "version", Gone.version)
    assert service.answered("GET", "/readyz", 503) == {"ready": False, "why": "The store cannot be read."}


def test_a_file_that_is_gone_is_an_error_in_words(store: Store, tmp_path: Any):
    with Asker(store) as asker:
        path = tmp_path / "facts.db"
        store.database.engine.dispose()
        path.unlink()
        for name in ("facts.db-wal", "facts.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        told = asker.get("/edits")
        assert told.status_code == 503
        assert told.json()["error"]["code"] == "store_unavailable"
        assert told.headers["retry-after"] == "5"
        assert asker.get("/healthz").status_code == 200
