"""Bodies that are none, sent to every route of a service that takes one."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from services import MODEL, served


def malformed(stores: Path, count: int) -> dict[str, Any]:
    """Send bodies that are none, and count what the service says to them."""
    with served(stores / "none.db", "--no-trainer", "--option", "failed_rate=1000000") as running:
        statuses = asyncio.run(_malformed(running.url, count))
    return {
        "bodies": count,
        "statuses": dict(sorted(statuses.items())),
        "5xx": sum(number for status, number in statuses.items() if status >= 500),
        "hangs": statuses.get(0, 0),
    }


async def _malformed(url: str, count: int) -> Counter[int]:
    draw, statuses = random.Random(0), Counter[int]()  # noqa: S311
    async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        routes = [(verb, path) for path, verbs in paths.items() for verb in verbs if "requestBody" in verbs[verb]]
        gate = asyncio.Semaphore(16)

        async def one() -> None:
            verb, path = draw.choice(routes)
            for name in ("{number}", "{a}", "{b}", "{name}", "{other}", "{id}"):
                path = path.replace(name, draw.choice(["1", "x", "0", "-1", "9" * 30]))
            headers = {"content-type": draw.choice(["application/json"] * 8 + ["text/plain", ""])}
            async with gate:
                try:
                    answer = await client.request(verb.upper(), path, content=_body(draw), headers=headers)
                    statuses[answer.status_code] += 1
                except httpx2.HTTPError:
                    statuses[0] += 1

        for _ in range(0, count, 500):
            await asyncio.gather(*(one() for _ in range(min(500, count))))
    return statuses


def _body(draw: random.Random) -> bytes:
    """Return a body that is no valid one: broken JSON, wrong types, bytes at random, deep, huge or odd values."""
    kind = draw.randrange(9)
    value: Any = draw.choice([None, True, -1, 1e308, "x" * 5000, [], {}, [[]] * 50, {"a": 1}, "\ud800", "\0", 10**400])
    names = ["prompt", "target", "model", "messages", "edits", "reason", "name", "scopes", "horen", "n", "stop"]
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    if kind == 1:
        return b"[" * draw.randrange(1, 50_000)
    if kind == 2:
        return b'{"a":' * 2000 + b"1" + b"}" * 2000
    if kind == 3:
        return json.dumps({draw.choice(names): value}).encode()
    if kind == 4:
        return json.dumps(dict.fromkeys(names, value)).encode()
    if kind == 5:
        return json.dumps(value).encode()
    if kind == 6:
        return b'{"prompt": "a", "prompt": "b", "target": NaN}'
    if kind == 7:
        text = json.dumps({"prompt": "a", "target": "b", draw.choice(names): value}).encode()
        return text[: draw.randrange(len(text))]
    return json.dumps({"model": MODEL, "prompt": "a", "max_tokens": 1, draw.choice(names): value}).encode("utf-16")
