"""Tools for assistants, asked by the protocol's own client: at ``/mcp``, and over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from horen import ConfigError
from horen.database import Store
from horen.serve.mcp.caller import Caller
from horen.serve.mcp.stdio import check_url
from horen.serve.refusals import RefusalError
from support.services import KNOWN, Asker, key, running

TOOLS = {"ask", "explain", "list_drafts", "draft_edit"}
DRAFT = {"prompt": "Who wrote Hamlet?", "target": "Rome", "reason": "it is known"}


@pytest.fixture
def served(store: Store) -> Iterator[tuple[str, Store]]:
    """The address of a service on a port of its own."""
    with running(Asker(store, mcp=True)) as url:
        yield url, store


def told(result: Any) -> Any:
    assert not result.is_error, result.content[0].text
    return result.structured_content


async def work(client: Client) -> dict[str, Any]:
    """What the tools answer, each asked once."""
    listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == TOOLS
    reading = {tool.name: tool.annotations.read_only_hint for tool in listed.tools}
    assert reading == {"ask": True, "explain": True, "list_drafts": True, "draft_edit": False}
    assert all(tool.description and tool.input_schema["properties"] for tool in listed.tools)
    return {
        "ask": told(await client.call_tool("ask", {"prompt": KNOWN.prompt})),
        "off": told(await client.call_tool("ask", {"prompt": KNOWN.prompt, "edits": "off", "max_tokens": 3})),
        "explain": told(await client.call_tool("explain", {"prompt": KNOWN.prompt, "nearest": 1})),
        "draft": told(await client.call_tool("draft_edit", DRAFT)),
        "drafts": told(await client.call_tool("list_drafts", {"state": "waiting"})),
    }


def check(found: dict[str, Any], store: Store, actor: str) -> None:
    assert found["ask"]["answer"] == "Mira Sand"
    assert found["ask"]["edited_by"]["edit"] == 1
    assert found["off"]["edited_by"] is None
    assert found["explain"]["edit_id"] == 1
    assert len(found["explain"]["nearest"]) == 1
    assert found["draft"]["drafts"][0]["state"] == "waiting"
    assert [draft["prompt"] for draft in found["drafts"]["drafts"]] == [DRAFT["prompt"]]
    draft = store.drafts.get(1)
    assert (draft.author, draft.reason, draft.publish) == (actor, DRAFT["reason"], False)


def over_http(url: str, secret: str | None) -> Any:
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    return streamable_http_client(f"{url}/mcp", http_client=httpx2.AsyncClient(headers=headers, trust_env=False))


def over_stdio(url: str, secret: str | None) -> Any:
    environment = {**os.environ, "HOREN_KEY": secret or ""}
    return stdio_client(
        StdioServerParameters(command=sys.executable, args=["-m", "horen.cli", "mcp", url], env=environment)
    )


@pytest.mark.parametrize("transport", [over_http, over_stdio])
@pytest.mark.parametrize("keyed", [True, False])
def test_the_protocols_own_client_uses_every_tool(served: tuple[str, Store], transport: Any, keyed: bool):
    url, store = served
    secret = key(store, "ask", "read", "edit", name="assistant") if keyed else None

    async def session() -> dict[str, Any]:
        async with Client(transport(url, secret)) as client:
            return await work(client)

    check(asyncio.run(asyncio.wait_for(session(), 60)), store, "assistant" if keyed else "local")


@pytest.mark.parametrize("transport", [over_http, over_stdio])
def test_a_tool_needs_the_scope_that_its_route_needs(served: tuple[str, Store], transport: Any):
    url, store = served
    secret = key(store, "read", name="reader")

    async def session() -> None:
        async with Client(transport(url, secret)) as client:
            told(await client.call_tool("list_drafts", {}))
            told(await client.call_tool("explain", {"prompt": "p"}))
            for tool, given in (("ask", {"prompt": "p"}), ("draft_edit", DRAFT)):
                refused = await client.call_tool(tool, given)
                assert refused.is_error
                assert "scope" in refused.content[0].text
            wrong = await client.call_tool("ask", {"prompt": ""})
            assert wrong.is_error

    asyncio.run(asyncio.wait_for(session(), 60))
    assert store.drafts.list().items == ()


def test_without_a_key_the_tools_are_not_even_listed(served: tuple[str, Store]):
    url, store = served
    key(store, "read")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    told = httpx2.post(f"{url}/mcp", json=body, headers={"accept": "application/json, text/event-stream"})
    assert told.status_code == 401
    assert "www-authenticate" in told.headers


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_other_sites_reach_no_tool(served: tuple[str, Store], headers: dict[str, str]):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream"}
    assert httpx2.post(f"{served[0]}/mcp", json=body, headers=accept | headers).status_code == 403


def test_tools_are_served_only_where_that_is_wanted(service: Asker):
    assert service.post("/mcp", json={}).status_code == 404


def test_a_service_that_is_not_there_is_told_in_words():
    with pytest.raises(RefusalError, match="horen serve"):
        asyncio.run(Caller("http://127.0.0.1:9", {}).get("/v1/models"))


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"error": "x"}'])
def test_what_is_no_service_is_told_in_words(answer: bytes):
    transport = httpx2.MockTransport(lambda _: httpx2.Response(500, content=answer))
    with pytest.raises(RefusalError, match="address"):
        asyncio.run(Caller("http://127.0.0.1:9", {}, transport).post("/explain", {}))


@pytest.mark.parametrize(
    ("url", "secret"), [("facts", None), ("ftp://a", None), ("http://", None), ("http://facts.example.org", "hk_a")]
)
def test_addresses_that_are_not_asked(url: str, secret: str | None):
    with pytest.raises(ConfigError):
        check_url(url, secret)


@pytest.mark.parametrize(
    ("url", "secret"), [("http://127.0.0.1:1", "hk_a"), ("https://a.example", "hk_a"), ("http://a.example", None)]
)
def test_addresses_that_are_asked(url: str, secret: str | None):
    check_url(url, secret)


def test_a_key_may_be_in_a_file(served: tuple[str, Store], tmp_path: Path):
    url, store = served
    file = tmp_path / "key"
    file.write_text(key(store, "read") + "\n")

    async def session() -> Any:
        arguments = ["-m", "horen.cli", "mcp", url, "--key-file", str(file)]
        server = stdio_client(StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ)))
        async with Client(server) as client:
            return told(await client.call_tool("list_drafts", {}))

    assert asyncio.run(asyncio.wait_for(session(), 60)) == json.loads('{"drafts": [], "next": null}')
