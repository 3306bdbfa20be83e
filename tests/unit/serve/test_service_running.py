"""A service on a real server: it is served, and ends so that nobody who was being answered notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from horen import ConfigError
from horen.database import Store
from horen.serve.life import Life
from horen.serve.running import bound, configuration
from horen.serve.settings import Settings
from support import served_alone
from support.services import Asker, key, running

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}]}


@contextmanager
def process(path: Path, pause: float, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own, and its address."""
    tests = str(Path(served_alone.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, served_alone.__file__, str(path), str(pause), json.dumps(settings)]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert done.stdout is not None
        url = f"http://127.0.0.1:{int(done.stdout.readline())}"
        wait_for(lambda: answers(url))
        yield done, url
    finally:
        done.kill()
        done.communicate()


def answers(url: str) -> bool:
    """Whether a service answers by now."""
    try:
        return httpx2.get(f"{url}/healthz").status_code == 200
    except httpx2.ConnectError:
        return False


def wait_for(done: Callable[[], bool]) -> None:
    """Return when something is so, which must not take long."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    found = tmp_path / "facts.db"
    found.write_bytes(template.read_bytes())
    return found


def test_what_runs_is_finished_before_a_service_ends(path: Path):
    with process(path, 8, drain_seconds=4) as (service, url):
        told: list[httpx2.Response] = []
        asking = threading.Thread(
            target=lambda: told.append(httpx2.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30))
        )
        stream: list[str] = []
        httpx2.post(f"{url}/edits", json={"prompt": "p", "target": "t"})
        news = threading.Thread(target=lambda: stream.extend(httpx2.get(f"{url}/drafts/1/events").text.splitlines()))
        news.start()
        asking.start()
        wait_for(lambda: "horen_answers_running 1.0" in httpx2.get(f"{url}/metrics").text)
        service.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx2.get(f"{url}/readyz").json() == {"ready": False, "why": "The service ends."})
        assert httpx2.get(f"{url}/edits/1").status_code == 200  # it is asked until balancers have seen that
        asking.join(30)
        news.join(30)
        printed, logged = service.communicate(timeout=30)
    assert told[0].status_code == 200
    assert told[0].json()["choices"][0]["message"]["content"] == "Mira Sand"
    assert any(line.startswith("data:") for line in stream)
    assert printed.split() == ["closed"]
    assert service.returncode == 0
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["message"] for line in lines if line["level"] not in {"info", "debug"}] == []


def test_what_takes_too_long_is_broken_off(path: Path):
    with process(path, 120, closing_seconds=1) as (service, url):
        errors: list[Exception] = []

        def ask() -> None:
            try:
                httpx2.post(f"{url}/v1/chat/completions", json=CHAT, timeout=100).raise_for_status()
            except httpx2.HTTPError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: "horen_answers_running 1.0" in httpx2.get(f"{url}/metrics").text)
        began = time.monotonic()
        service.send_signal(signal.SIGTERM)
        told, _ = service.communicate(timeout=30)
        asking.join(30)
    assert time.monotonic() - began < 30
    assert told.split() == ["closed"]
    assert service.returncode == 0
    assert len(errors) == 1


def test_the_address_is_taken_before_anything_is_loaded():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be had"):
            bound(Settings(port=port))
    with bound(Settings(address="::1", port=0)) as found:
        assert found.family == socket.AF_INET6


def test_a_proxys_word_is_taken_only_from_proxies_that_are_named(store: Store):
    secret = key(store, "read")
    asker = Asker(store, secret, failed_rate=2, proxies=("127.0.0.1",))
    wrong = {"authorization": "Bearer hk_wrong"}
    with running(asker) as url:
        for client in ("10.0.0.1", "10.0.0.2"):
            headers = wrong | {"x-forwarded-for": client}
            tried = [httpx2.get(f"{url}/tags", headers=headers).status_code for _ in range(3)]
            assert tried == [401, 401, 429], client
    asker = Asker(store, secret, failed_rate=2)
    with running(asker) as url:
        tried = [
            httpx2.get(f"{url}/tags", headers=wrong | {"x-forwarded-for": f"10.0.0.{n}"}).status_code for n in range(3)
        ]
        assert tried == [401, 401, 429]


def test_a_service_below_a_path(store: Store):
    secret = key(store, "read")
    asker = Asker(store, secret, root_path="/facts")
    with running(asker) as url:
        headers = {"authorization": f"Bearer {secret}"}
        assert httpx2.get(f"{url}/edits/1", headers=headers).status_code == 200
        assert httpx2.get(f"{url}/healthz").status_code == 200
        assert httpx2.get(f"{url}/docs").status_code == 200
        assert httpx2.get(f"{url}/edits/1").status_code == 401
        described = httpx2.get(f"{url}/openapi.json").json()
        assert described["servers"] == [{"url": "/facts"}]


def test_a_server_says_nothing_of_itself_and_logs_no_paths(store: Store):
    told = configuration(Asker(store).app, Settings())
    assert told.access_log is False
    assert told.server_header is False
    with running(Asker(store)) as url:
        assert "server" not in httpx2.get(f"{url}/healthz").headers


def test_raw_requests_that_no_client_sends(store: Store):
    """Whatever comes, the server stays, and nothing is answered with 500."""
    asker = Asker(store)
    with running(asker) as url:
        port = int(url.rpartition(":")[2])
        for sent in (
            b"GET /edits/..%2f..%2fkeys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"GET http://evil.example/edits HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"GET /edits HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET /edits HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
            b"GET /edits HTTP/1.0\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"POST /undo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /undo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            b"POST /undo HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: a\r\n b\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GARBAGE\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                told = connection.recv(65536)
            assert b"evil" not in told.partition(b"\r\n\r\n")[0]
            status = int(told.split()[1]) if told.startswith(b"HTTP/") else None
            assert status is None or status < 500, (sent, told)
            if b"evil" in sent or b"keys" in sent:
                assert status in {400, 403}, (sent, told)
        assert httpx2.get(f"{url}/healthz").status_code == 200


# --- the life of a service ---------------------------------------------------------------------------------------


def test_a_life_leaves_and_then_ends():
    life = Life()
    life.leave()
    assert (life.leaving, life.ending) == (True, False)
    life.end()
    assert life.ending
    other = Life()
    other.end()
    assert other.leaving


def test_what_runs_is_waited_for_and_no_longer():
    life = Life()
    assert asyncio.run(life.finished(0))
    with life.answer():
        assert life.running == 1
        assert not asyncio.run(life.finished(0.1))
    assert life.running == 0


def test_the_application_closes_trainer_and_engine(store: Store):
    asker = Asker(store)
    with asker:
        assert not asker.engine.closed
    assert asker.engine.closed
    assert asker.app.state.service.life.ending
    told = Asker(store)
    told.app.state.service.life.end()
    with told:
        refused = told.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "ending"
