"""What edits cost a service: the same requests are answered with many edits and with none, in turn.

64 requests at once, a tenth of which wakes an edit. An edit's answer ends where its target does, so that other tokens
would be compared than those of the untouched model: prompts of edits are asked for as few tokens as every answer has,
and other questions, whose answers are long, for 16 to 48. Both services make the same number of tokens then, which the
results tell, and requests end one by one, as they do in use. Beside tokens a second stands processor time a token,
which other work on the machine disturbs less.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from services import MODEL, Running, listed, served

_AT_ONCE, _TURNS = 64, 5
# Prompts of edits and other questions that requests are drawn from.
_EDITS, _QUESTIONS = 60, 200
# Tokens of the answers to them.
_SHORT, _LONG = 3, (16, 48)

#: A prompt, and how many tokens its answer may have.
Request = tuple[str, int]


def throughput(stores: Path, requests: int) -> dict[str, Any]:
    """Ask a service with many edits and one with none in turn."""
    prompts = [(prompt, _SHORT) for prompt in listed(stores / "many.db", _EDITS)]
    texts = json.loads((stores / "questions.json").read_text(encoding="utf-8"))
    questions = [(text, _LONG[1]) for text in list(dict.fromkeys(texts))[:_QUESTIONS]]
    speeds: dict[str, list[float]] = {"none": [], "many": []}
    costs: dict[str, list[float]] = {"none": [], "many": []}
    made: dict[str, list[int]] = {"none": [], "many": []}
    with served(stores / "none.db", "--no-trainer") as none, served(stores / "many.db", "--no-trainer") as many:
        services = {"none": none, "many": many}
        usable = set(prompts + questions)
        for one in services.values():  # which warms up too
            usable &= set(_reaching(one, prompts + questions))
        prompts, questions = [[one for one in some if one in usable] for some in (prompts, questions)]
        print(
            len(prompts), "prompts of edits and", len(questions), "questions have answers of these lengths", flush=True
        )
        for turn in range(_TURNS):
            draw = random.Random(turn)  # noqa: S311
            some = [
                draw.choice(prompts) if number % 10 == 0 else (draw.choice(questions)[0], draw.randint(*_LONG))
                for number in range(requests)
            ]
            for name in sorted(services, reverse=bool(turn % 2)):
                before, began = services[name].seconds(), time.perf_counter()
                tokens = sum(asyncio.run(_lengths(services[name].url, some)))
                made[name].append(tokens)
                speeds[name].append(tokens / (time.perf_counter() - began))
                costs[name].append(1e3 * (services[name].seconds() - before) / tokens)
            print({name: [round(some[-1], 1) for some in (speeds[name], costs[name])] for name in speeds}, flush=True)
    return {
        "prompts of edits": len(prompts),
        "questions": len(questions),
        "requests a turn": requests,
        "tokens": made,
        "tokens a second": speeds,
        "ms of processor time a token": costs,
        "ratio": _ratio(speeds["many"], speeds["none"]),
        "ratio by processor time": _ratio(costs["none"], costs["many"]),
    }


def _ratio(some: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """Return the median of ratios, and all of them."""
    ratios = [one / other for one, other in zip(some, others, strict=True)]
    return {"median": statistics.median(ratios), "each": ratios}


def _reaching(service: Running, some: Sequence[Request]) -> list[Request]:
    """Return the requests whose answers have as many tokens as they may have."""
    lengths = asyncio.run(_lengths(service.url, some))
    return [one for one, length in zip(some, lengths, strict=True) if length == one[1]]


async def _lengths(url: str, some: Sequence[Request]) -> list[int]:
    """Return how many tokens the answers to requests have, 64 of which are asked at once."""
    limits = httpx2.Limits(max_connections=_AT_ONCE)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(prompt: str, most: int) -> int:
            async with gate:
                body = {"model": MODEL, "prompt": prompt, "max_tokens": most, "temperature": 0}
                answer = await client.post("/v1/completions", json=body)
                assert answer.status_code == 200, answer.text
                return int(answer.json()["usage"]["completion_tokens"])

        return await asyncio.gather(*(one(*each) for each in some))
