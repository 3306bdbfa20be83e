"""Clients that leave, stall, push or send too much, and an engine that fails."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from openai_support import CHAT, MOST, PLACES, PROMPT, SECONDS, Service, service_of

from horen import EditNotFoundError, Editor
from horen.serve.engines.interface import Wanted
from horen.serve.openai.places import Limits
from horen.serve.openai.prompts import Served
from horen.serve.openai.requests import WantedBody
from horen.serve.openai.routes import openai_router
from support.generating import Generating
from support.servers import running, within

# So many answers take seconds of the slow model.
MANY = {"model": "slow", "n": PLACES, "temperature": 1.5, "max_tokens": 100}


def sent(service: Service, path: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which a request was sent."""
    content = json.dumps(body).encode()
    return opened(service, path, f"Content-Length: {len(content)}\r\n".encode(), content)


def opened(service: Service, path: str, headers: bytes, content: bytes = b"") -> socket.socket:
    host, _, port = service.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(30)
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n".encode()
    connection.sendall(head + headers + b"\r\n" + content)
    return connection


def read(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer after which the connection is closed."""
    found = b""
    while part := connection.recv(65536):
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def idle(service: Service) -> bool:
    return not service.slow.running and not service.engine.running


# --- who leaves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_who_leaves_a_stream_ends_the_request(service: Service, path: str):
    asked = {"prompt": PROMPT} if path == "completions" else {"messages": [{"role": "user", "content": CHAT}]}
    with httpx2.stream("POST", f"{service.url}/v1/{path}", json={**MANY, **asked, "stream": True}) as answer:
        next(answer.iter_bytes())
        assert service.slow.running
    assert within(2, lambda: idle(service))
    made = service.slow.made
    time.sleep(0.3)
    assert service.slow.made == made
    assert len(service.events) < PLACES


def test_who_leaves_before_the_first_word_ends_the_request(service: Service):
    for more in ({}, {"stream": True}):
        first, second = (sent(service, "completions", {**MANY, "n": 4, "prompt": PROMPT, **more}) for _ in range(2))
        assert within(5, lambda: len(service.slow.running) == 2)  # one of which waits for the other
        second.close()
        assert within(5, lambda: len(service.slow.running) == 1)
        first.close()
        assert within(5, lambda: idle(service))


def test_the_official_client_leaves(service: Service):
    with service.complete(stream=True, **MANY) as stream:
        next(iter(stream))
    assert within(2, lambda: idle(service))


def test_places_are_given_back_whoever_leaves(service: Service):
    for _ in range(3):
        connection = sent(service, "completions", {**MANY, "prompt": PROMPT, "stream": True})
        assert within(5, lambda: service.slow.running)
        connection.close()
        assert within(5, lambda: idle(service))
        with pytest.raises(openai.BadRequestError):
            service.complete(n=PLACES, extra_body={"horen": {"version": 7}})
    assert within(5, lambda: service.complete(n=PLACES, max_tokens=1).choices)


def test_a_connection_is_used_again(service: Service):
    body = {"model": "tiny", "prompt": PROMPT, "temperature": 0}
    with httpx2.Client(base_url=service.url) as client:
        for stream in (True, False, True, False):
            answer = client.post("/v1/completions", json={**body, "stream": stream})
            assert answer.status_code == 200
            assert "Mira" in answer.text
            assert client.post("/v1/completions", json={**body, "n": 0}).status_code == 400
        (connection,) = client._transport._pool.connections
        assert connection.is_available()


# --- who pushes --------------------------------------------------------------------------------------------------


def test_who_asks_while_there_is_no_room_is_told_to_come_again(service: Service):
    stream = service.complete(stream=True, **MANY)
    next(iter(stream))
    with pytest.raises(openai.RateLimitError, match=f"{PLACES} answers are being made") as caught:
        service.complete()
    assert caught.value.response.headers["retry-after"] == "1"
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    stream.close()
    assert service.client(retries=5).completions.create(model="tiny", prompt=PROMPT).choices
    assert within(2, lambda: idle(service))


def test_many_at_once_each_have_their_own(service: Service):
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        choice = service.client(retries=50).completions.create(
            model="tiny", prompt=PROMPT if number % 2 else CHAT, temperature=0
        )
        found[number] = choice.choices[0].horen["edit"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: 1 if number % 2 else 2 for number in range(40)}


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="answers=5 with at_once=4 cannot be kept"):
        Limits(answers=5, at_once=4)


# --- who sends too much, or too slowly ---------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_before_it_is_read(service: Service):
    with opened(service, "completions", f"Content-Length: {MOST + 1}\r\n".encode()) as connection:
        status, headers, body = read(connection)
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["error"]["code"] == "request_too_large"


def test_a_body_that_does_not_say_how_large_it_is_is_refused_when_it_is(service: Service):
    part = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with opened(service, "completions", b"Transfer-Encoding: chunked\r\n", part * 4) as connection:
        status, _, body = read(connection)
    assert status == 413
    assert f"larger than {MOST} bytes" in json.loads(body)["error"]["message"]
    with pytest.raises(openai.APIStatusError) as caught:
        service.complete("a" * MOST)
    assert caught.value.status_code == 413


def test_a_body_that_comes_a_byte_at_a_time_is_given_up(service: Service):
    begun = time.monotonic()
    with opened(service, "completions", b"Content-Length: 1000\r\n") as connection:

        def drip() -> None:
            for _ in range(100):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return
                time.sleep(0.05)

        dripping = threading.Thread(target=drip)
        dripping.start()
        status, headers, body = read(connection)
    dripping.join()
    assert (status, headers["connection"]) == (408, "close")
    assert json.loads(body)["error"]["code"] == "request_timeout"
    assert SECONDS <= time.monotonic() - begun < SECONDS + 2


def test_a_body_that_ends_early_is_no_request(service: Service):
    with opened(service, "completions", b"Content-Length: 1000\r\n", b'{"model": "tiny"') as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert service.complete().choices


# --- what fails --------------------------------------------------------------------------------------------------


@pytest.fixture
def own(editor: Editor) -> Iterator[Service]:
    service = service_of(editor)
    with running(service.app) as service.url:
        yield service


def test_an_engine_that_fails_is_told(own: Service):
    stream = own.complete(stream=True, **MANY)
    pieces = iter(stream)
    next(pieces)
    asyncio.run(own.slow.close())
    with pytest.raises(openai.APIError, match="The engine was closed"):
        list(pieces)
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.InternalServerError, match="The engine was closed: start it anew") as caught:
            own.complete(model="slow", **more)
        assert (caught.value.status_code, caught.value.type) == (503, "server_error")
    assert own.complete().choices


def test_a_stream_that_fails_does_not_end_as_a_whole_one(own: Service):
    body = {**MANY, "prompt": PROMPT, "stream": True}
    with httpx2.stream("POST", f"{own.url}/v1/completions", json=body) as answer:
        found = ""
        for part in answer.iter_text():
            asyncio.run(own.slow.close())
            found += part
    assert '"error"' in found.split("data: ")[-1]
    assert "[DONE]" not in found


def asked_with(editor: Editor, **hooks: Any) -> TestClient:
    app = FastAPI()
    app.include_router(openai_router([Served(Generating(editor), editor.tokenizer)], **hooks))
    return TestClient(app)


TEXT = {"model": "tiny", "prompt": PROMPT, "temperature": 0}


def test_an_answer_is_not_lost_for_what_is_told_of_it(editor: Editor, caplog: pytest.LogCaptureFixture):
    def failing(_: Any) -> None:
        raise KeyError("lost")

    assert asked_with(editor, answered=failing).post("/v1/completions", json=TEXT).status_code == 200
    assert "was not taken" in caplog.text


def test_who_asks_is_asked_for_and_told_to_both_hooks(editor: Editor):
    seen, told = [], []

    def who(authorization: str = Header("")) -> str:
        if authorization != "Bearer right":
            raise HTTPException(401, "The key is not valid: ask for one.", {"WWW-Authenticate": "Bearer"})
        return "Ada"

    async def resolve(wanted: WantedBody, principal: str) -> Wanted:
        seen.append((wanted.tags, principal))
        if wanted.tags == ["gone"]:
            raise EditNotFoundError("There is no tag 'gone'.")
        return Wanted(only=frozenset({2}))

    client = asked_with(editor, principal=who, resolve=resolve, answered=told.append)
    for method, path in (("post", "completions"), ("get", "models"), ("get", "models/tiny")):
        answer = getattr(client, method)(f"/v1/{path}", **({"json": TEXT} if method == "post" else {}))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"
    headers = {"Authorization": "Bearer right"}
    answer = client.post("/v1/completions", json={**TEXT, "horen": {"tags": ["legal"]}}, headers=headers)
    assert answer.json()["choices"][0]["horen"] is None
    assert client.post("/v1/completions", json=TEXT, headers=headers).status_code == 200
    assert seen == [(["legal"], "Ada"), (None, "Ada")]
    assert [(event.principal, event.wanted.only) for event in told] == [("Ada", frozenset({2}))] * 2
    answer = client.post("/v1/completions", json={**TEXT, "horen": {"tags": ["gone"]}}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "horen")
    assert answer.json()["error"]["message"] == "There is no tag 'gone'."


def test_what_nobody_expected_is_logged_and_not_told(editor: Editor, caplog: pytest.LogCaptureFixture):
    async def resolve(*_: Any) -> Wanted:
        raise KeyError("a secret")

    answer = asked_with(editor, resolve=resolve).post("/v1/completions", json=TEXT)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "a secret" in caplog.text
