"""Limits on bodies, around an application that reads what it is given; over HTTP they are met in `openai/`."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from horen.serve.limits import BodySize, BodyTime, ReadTime
from support.servers import running, within

Message = dict[str, Any]


async def asked(app: Any, messages: Sequence[Message | float], headers: Sequence[tuple[bytes, bytes]] = ()) -> Any:
    """What an application sends for a request that comes in parts; numbers are seconds between them."""
    coming, sent = list(messages), list[Message]()

    async def receive() -> Message:
        while coming and isinstance(coming[0], float):
            await asyncio.sleep(float(coming.pop(0)))
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "headers": list(headers)}, receive, send)
    return sent


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(_: Any, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
    """Answer with the length of the body, or that the client has gone."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            await send({"type": "http.response.start", "status": 499, "headers": []})
            await send({"type": "http.response.body", "body": b"gone"})
            return
        length, more = length + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def statuses(sent: Sequence[Message]) -> list[int]:
    return [message["status"] for message in sent if message["type"] == "http.response.start"]


@pytest.mark.parametrize("lengths", [[10], [4, 4, 2], [0, 10, 0]])
def test_a_body_of_the_limit_is_read(lengths: list[int]):
    parts = [part(b"a" * length, more=place < len(lengths) - 1) for place, length in enumerate(lengths)]
    sent = asyncio.run(asked(BodySize(echo, 10), parts))
    assert (statuses(sent), sent[-1]["body"]) == ([200], b"10")


@pytest.mark.parametrize("lengths", [[11], [4, 4, 4], [11, 0]])
def test_a_larger_one_is_refused_once(lengths: list[int]):
    parts = [part(b"a" * length, more=place < len(lengths) - 1) for place, length in enumerate(lengths)]
    sent = asyncio.run(asked(BodySize(echo, 10), parts))
    assert statuses(sent) == [413]
    assert json.loads(sent[-1]["body"])["error"]["message"].startswith("The request's body is larger than 10 bytes")


@pytest.mark.parametrize(("length", "status"), [(b"10", 200), (b"11", 413), (b"9" * 50, 413), (b"ten", 200)])
def test_a_length_that_is_told_counts_too(length: bytes, status: int):
    sent = asyncio.run(asked(BodySize(echo, 10), [part(b"a", more=False)], [(b"Content-Length", length)]))
    assert statuses(sent) == [status]


def test_an_answer_that_has_begun_is_broken_off():
    async def early(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"all of it"})

    sent = asyncio.run(asked(BodySize(early, 10), [part(b"a" * 11)]))
    assert statuses(sent) == [200]
    assert len(sent) == 1


def test_a_slow_body_is_refused_and_a_large_one_has_longer():
    slow = [part(b"a"), 0.1, part(b"a"), 0.1, part(b"a", more=False)]
    sent = asyncio.run(asked(BodyTime(echo, 0.15), slow))
    assert statuses(sent) == [408]
    assert statuses(asyncio.run(asked(BodyTime(echo, 0.15, rate=5), slow))) == [200]
    assert statuses(asyncio.run(asked(BodyTime(echo, 1), slow))) == [200]


def test_what_comes_after_the_body_may_take_its_time():
    async def patient(_: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    assert statuses(asyncio.run(asked(BodyTime(patient, 0.05), [part(b"a", more=False), 0.2]))) == [200]


def test_who_does_not_read_is_taken_for_gone():
    async def app(_: Any, receive: Any, send: Any) -> None:
        waiting = asyncio.ensure_future(receive())
        with pytest.raises(OSError, match=r"did not read its answer for 0\.1 seconds"):
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        with pytest.raises(OSError, match="did not read"):
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        assert await waiting == {"type": "http.disconnect"}
        ended.append(True)
        await send({"type": "http.response.body", "body": b"a"})

    async def run() -> float:
        never, loop = asyncio.Event(), asyncio.get_running_loop()
        begun = loop.time()

        async def waits(*_: Message) -> Message:
            await never.wait()
            raise AssertionError

        await ReadTime(app, 0.1)({"type": "http"}, waits, waits)
        return loop.time() - begun

    ended: list[bool] = []
    assert 0.1 <= asyncio.run(run()) < 2
    assert ended


def test_a_real_client_that_does_not_read_is_given_up():
    ends: list[str] = []

    async def endless(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"a" * 1_000_000, "more_body": True})
        except OSError as error:
            ends.append(str(error))
            raise

    with running(ReadTime(endless, 0.3)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            assert within(20, lambda: ends)
            assert "did not read" in ends[0]


def test_who_reads_may_take_longer_in_all():
    async def app(_: Any, receive: Any, send: Any) -> None:
        for _ in range(5):
            await send(await receive())

    async def run() -> int:
        taken = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def slowly(message: Message) -> None:
            await asyncio.sleep(0.05)
            taken.append(message)

        await ReadTime(app, 0.15)({"type": "http"}, receive, slowly)
        return len(taken)

    assert asyncio.run(run()) == 5


def test_what_an_application_raises_is_raised():
    async def app(*_: Any) -> None:
        raise KeyError("its own")

    async def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(KeyError, match="its own"):
        asyncio.run(ReadTime(app, 1)({"type": "http"}, never, never))


@pytest.mark.parametrize(
    "limit", [lambda app: BodySize(app, 1), lambda app: BodyTime(app, 1), lambda a: ReadTime(a, 1)]
)
def test_what_is_no_request_passes(limit: Any):
    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})

    async def run() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await limit(app)({"type": "lifespan"}, None, send)
        return sent

    assert asyncio.run(run()) == [{"type": "lifespan.startup.complete"}]
