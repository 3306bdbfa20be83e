"""A server that is gone, or is none of vLLM's; with vLLM itself the engine is asked in `tests/engines`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Response

from horen import ConfigError, Editor, ModelError
from horen.serve.engines import vllm_remote, vllm_words
from horen.serve.engines.interface import Fired, Piece, Request, Sampling, Wanted
from horen.serve.engines.vllm_remote import RemoteVllm
from horen.serve.openai.prompts import Served
from horen.serve.openai.routes import openai_router
from support.editors import quick_editor
from support.generating import Generating
from support.servers import free_port, running

REQUEST = Request("1", (5, 6), Sampling(max_tokens=2))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that speaks OpenAI's words, and none of vLLM's own."""
    editor: Editor = quick_editor()
    app = FastAPI()
    app.include_router(openai_router([Served(Generating(editor), editor.tokenizer)]))

    @app.get("/other/v1/models")
    def words() -> Response:
        return Response("<html>", media_type="text/html")

    @app.get("/odd/v1/models")
    def odd() -> dict[str, Any]:
        return {"data": [{"id": "a"}]}

    @app.get("/closed/v1/models", status_code=401)
    def closed() -> dict[str, Any]:
        return {"error": {"message": "no key"}}

    with running(app) as url:
        yield url


async def all_of(engine: RemoteVllm, request: Request = REQUEST) -> list[Piece]:
    return [piece async for piece in engine.ask(request)]


def test_a_server_is_asked_which_model_it_has(url: str):
    for model in (None, "tiny"):
        engine = asyncio.run(RemoteVllm.open(url, model))
        assert (engine.model, engine.context) == ("tiny", 256)
    with pytest.raises(ConfigError, match="has no model 'large': name one of tiny"):
        asyncio.run(RemoteVllm.open(url, "large"))


@pytest.mark.parametrize("url", ["http://a:b", "http://\0"])
def test_what_is_no_address_is_told(url: str):
    with pytest.raises(ConfigError, match="is no address of a server"):
        asyncio.run(RemoteVllm.open(url))


@pytest.mark.parametrize("url", ["", "a", "ftp://127.0.0.1"])
def test_what_cannot_be_asked_is_told(url: str):
    with pytest.raises(ModelError, match="cannot be reached: UnsupportedProtocol"):
        asyncio.run(RemoteVllm.open(url))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/other", "does not list models as vLLM does"),
        ("/odd", "does not list models as vLLM does"),
        ("/closed", "says 401: no key"),
        ("/nothing", "says 404"),
    ],
)
def test_what_is_no_server_of_vllm_is_told(url: str, path: str, told: str):
    with pytest.raises(ModelError, match=told):
        asyncio.run(RemoteVllm.open(url + path))


def test_what_a_server_does_not_take_is_told_in_its_words(url: str):
    async def run() -> None:
        engine = RemoteVllm(url, "tiny", 256)
        health = await engine.health()
        assert (health.ready, health.running) == (False, 0)
        assert health.why.endswith("says 404")
        await all_of(engine)

    with pytest.raises(ConfigError, match="is not known here"):
        asyncio.run(run())


def test_a_server_that_is_gone_is_told_and_so_is_an_engine_that_was_closed():
    gone = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ModelError, match=rf"{gone} cannot be reached: ConnectError.*Start it, or name another"):
        asyncio.run(RemoteVllm.open(gone))

    async def run() -> None:
        engine = RemoteVllm(gone, "tiny", 256)
        health = await engine.health()
        assert not health.ready
        assert health.why.startswith(f"{gone} cannot be reached")
        with pytest.raises(ModelError, match="cannot be reached"):
            await all_of(engine)
        assert (await engine.health()).running == 0
        await engine.close()
        await engine.close()
        assert (await engine.health()).why == "it was closed"
        await all_of(engine)

    with pytest.raises(ModelError, match="was closed: open another"):
        asyncio.run(run())


# --- events ------------------------------------------------------------------------------------------------------


def events(*parts: bytes) -> list[Any]:
    async def coming() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def run() -> list[Any]:
        return [event async for event in vllm_remote._events(coming())]

    return asyncio.run(run())


def test_events_are_read_wherever_they_are_cut():
    told = [{"text": "a\u2028b\u0085c\x1cd"}, {"text": "ü\r"}, {"text": ""}]
    stream = b": waits\n\n" + b"".join(
        b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\r\n\r\n" for one in told
    )
    stream += b"data: [DONE]\n\n"
    assert events(stream) == told
    assert events(*(stream[place : place + 1] for place in range(len(stream)))) == told
    assert events(stream, b"data: what comes later\n\n") == told


def test_a_stream_that_is_cut_off_is_no_answer():
    with pytest.raises(ModelError, match="broke an answer off"):
        events(b'data: {"text": "a"}\n\n')


# --- words -------------------------------------------------------------------------------------------------------


def test_what_is_wanted_is_said_in_the_words_of_the_plugin():
    assert vllm_words.words(Wanted()) == {}
    assert vllm_words.words(Wanted(on=False)) == {"horen": "off"}
    wanted = Wanted(version=0, only=frozenset({3, 1}), without=frozenset({2}))
    assert vllm_words.words(wanted) == {"horen_version": 0, "horen_only": [1, 3], "horen_without": [2]}
    assert vllm_words.words(Wanted(only=frozenset())) == {"horen_only": []}


def test_an_edit_that_may_not_answer_is_noticed():
    told = {"edit": 2, "score": 0.9, "version": 4}
    assert vllm_words.fired(None, Wanted(only=frozenset())) is None
    assert vllm_words.fired(told, Wanted(only=frozenset({2}))) == Fired(2, 0.9, 4)
    for wanted in (Wanted(on=False), Wanted(only=frozenset({1})), Wanted(without=frozenset({2}))):
        with pytest.raises(ModelError, match="edit 2, which may not answer"):
            vllm_words.fired(told, wanted)
