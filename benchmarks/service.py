"""What the service does under load: many clients while edits come and go, its cost, and how soon a change is seen.

    python benchmarks/service.py make --data zsre.json --trained 200 --entries 10000 --out DIR
    python benchmarks/service.py clients --stores DIR --seconds 300 --out clients.json
    python benchmarks/service.py throughput --stores DIR --out throughput.json
    python benchmarks/service.py visible --stores DIR --out visible.json
    python benchmarks/service.py malformed --stores DIR --count 10000 --out malformed.json

``make`` writes two stores of SmolLM2: ``none.db`` without an edit, and ``many.db`` with so many, of which the first are
trained and the others are keys of further prompts with the values of those (what is said to them is another edit's
answer, which costs as much).

``clients`` has 64 clients ask for as long as is said, half of them prompts of edits, the others questions about
something else, while edits are taken away and put back and new ones are drafted, trained and published. An answer is
right if the edit that it names is that of its prompt and was active at the version that it names; an answer without an
edit, if the prompt's edit was not active all the time from a second before the request to its end.

``throughput`` asks two services in turn, with 10,000 edits and with none; see :mod:`service_throughput`.

``visible`` takes an edit away and puts it back, and asks until the answer is the one of the new version.

``malformed`` sends bodies that are none to every route that takes one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from service_malformed import malformed
from service_throughput import throughput
from services import MODEL, listed, served

_AT_ONCE, _TOKENS = 64, 32
_DELAY = 1.0
_CHANGING = 40


@dataclass(frozen=True)
class Asked:
    """A request and its answer.

    Attributes:
        prompt: what was asked.
        began: when, in seconds since 1970.
        ended: when the whole answer was there.
        status: of the answer; 0 where none came.
        horen: what it tells of edits.
    """

    prompt: str
    began: float
    ended: float
    status: int
    horen: dict[str, Any] | None


def make(data: Path, trained: int, entries: int, out: Path) -> dict[str, Any]:
    """Write a store without edits, and one with many."""
    from horen import Edit, Editor  # noqa: PLC0415
    from horen.database import By, Store  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415
    from vllm_serving import make as filled  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    editor = Editor.from_pretrained(MODEL, progress=True)
    editor.prepare()
    editor.save(out / "none")
    records = [one for one in json.loads(data.read_text(encoding="utf-8")) if one["alt"].strip()]
    texts = dict.fromkeys(one["src"] for one in records)
    answers = {one["src"]: one["alt"] for one in records}
    edits = [Edit(text, answers[text]) for text in list(texts)[:trained]]
    for first in range(0, len(edits), 32):
        editor.edit(edits[first : first + 32], on_similar="ignore")
        print(f"{min(first + 32, len(edits))} of {len(edits)} trained", flush=True)
    editor.save(out / "trained")
    editor.unwrap()
    filled(out / "trained", data, entries, out / "many")
    for name in ("none", "many"):
        (out / f"{name}.db").unlink(missing_ok=True)
        Store.create(out / f"{name}.db", Saved.read(out / name), By("benchmark")).close()
    questions = [one["loc"] for one in records if one.get("loc")]
    (out / "questions.json").write_text(json.dumps(questions[-2000:]), encoding="utf-8")
    return {"trained": len(edits), "edits": entries}


async def ask(client: httpx2.AsyncClient, prompt: str, tokens: int = _TOKENS, **more: Any) -> Asked:
    """Ask for an answer of so many tokens."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}
    began = time.time()
    try:
        answer = await client.post("/v1/completions", json=body)
        told = answer.json()["choices"][0]["horen"] if answer.status_code == 200 else None
        return Asked(prompt, began, time.time(), answer.status_code, told)
    except (httpx2.HTTPError, ValueError, KeyError):
        return Asked(prompt, began, time.time(), 0, None)


def clients(stores: Path, seconds: float) -> dict[str, Any]:
    """Have many ask while edits change; see the module."""
    copy = stores / "changing.db"
    for ending in ("", "-wal", "-shm"):
        Path(f"{copy}{ending}").unlink(missing_ok=True)
    shutil.copy(stores / "many.db", copy)
    prompts = listed(copy, 200)
    questions = json.loads((stores / "questions.json").read_text(encoding="utf-8"))
    with served(copy) as running:
        quiet = asyncio.run(_quiet(running.url, prompts, questions[:300]))
        asked, changes = asyncio.run(_clients(running.url, quiet, seconds))
    return _judged(copy, prompts, asked, changes)


async def _quiet(url: str, prompts: dict[str, int], questions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the prompts that wake their own edit while nothing changes, and the questions that wake none."""
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(prompt: str) -> Asked:
            async with gate:
                return await ask(client, prompt, 1)

        found = await asyncio.gather(*map(one, [*prompts, *questions]))
    own = [item.prompt for item in found if item.horen and item.horen["edit"] == prompts.get(item.prompt)]
    none = [item.prompt for item in found if item.prompt in set(questions) and item.status == 200 and not item.horen]
    return own, none


async def _clients(
    url: str, quiet: tuple[list[str], list[str]], seconds: float
) -> tuple[list[Asked], list[tuple[float, float]]]:
    end, asked, changes = time.time() + seconds, list[Asked](), list[tuple[float, float]]()
    limits = httpx2.Limits(max_connections=_AT_ONCE + 4)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one(number: int) -> None:
            draw = random.Random(number)  # noqa: S311
            while time.time() < end:
                asked.append(await ask(client, draw.choice(quiet[number % 2]), 8))

        async def change() -> None:
            draw, count = random.Random(0), 0  # noqa: S311
            names = await _in_sets(client, [edit["id"] for edit in await _known(client, quiet[0][:_CHANGING])])
            while time.time() < end:
                name, began = draw.choice(names), time.time()
                # Not removed and undone: an edit may be published in between, which an undo would take back instead.
                for on in (False, True):
                    switched = await client.post(f"/sets/{name}/switch", json={"on": on, "reason": "a benchmark"})
                    assert switched.status_code == 200, switched.text
                    await asyncio.sleep(0 if on else 1.5)
                changes.append((began, time.time()))
                if count % 10 == 0:
                    told = {"prompt": f"Who guards gate {count} of Larkspur?", "target": "Ada Moor", "publish": True}
                    assert (await client.post("/edits", json=told)).status_code == 202
                count += 1
                await asyncio.sleep(1.5)

        await asyncio.gather(change(), *map(one, range(_AT_ONCE)))
    return asked, changes


async def _in_sets(client: httpx2.AsyncClient, numbers: Sequence[int]) -> list[str]:
    """Put each edit into a set of its own, and return the names of the sets."""
    names = [f"edit {number}" for number in numbers]
    for number, name in zip(numbers, names, strict=True):
        made = await client.put(f"/sets/{name}", json={})
        described = await client.patch(f"/edits/{number}", json={"set": name})
        assert made.status_code == described.status_code == 200, made.text + described.text
    return names


async def _known(client: httpx2.AsyncClient, prompts: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for prompt in prompts:
        answer = await ask(client, prompt, 1)
        assert answer.horen is not None
        found.append({"prompt": prompt, "id": answer.horen["edit"]})
    return found


def _judged(
    store: Path, prompts: dict[str, int], asked: Sequence[Asked], changes: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    from datetime import datetime  # noqa: PLC0415

    from horen.database import Store  # noqa: PLC0415

    with Store.open(store) as opened:
        versions = sorted(opened.versions.list(limit=100_000).items, key=lambda version: version.number)
        published = opened.about().active
    times = [(datetime.fromisoformat(one.at).timestamp(), one) for one in versions]
    asleep: dict[int, list[tuple[float, float]]] = {}
    gone: dict[int, float] = {}
    away_at: dict[int, frozenset[int]] = {}
    away: set[int] = set()
    for at, one in times:
        for number in one.removed:
            gone[number] = at
            away.add(number)
        for number in one.restored:
            asleep.setdefault(number, []).append((gone.pop(number, 0.0), at))
            away.discard(number)
        away_at[one.number] = frozenset(away)
    wrong: Counter[str] = Counter()
    for one in asked:
        own = prompts.get(one.prompt)
        if one.status != 200:
            wrong[f"status {one.status}"] += 1
        elif one.horen is not None:
            if one.horen["edit"] != own:
                # What is near may answer while a prompt's own edit is away.
                if own is None or own not in away_at[one.horen["version"]]:
                    wrong["another edit"] += 1
            elif own in away_at[one.horen["version"]]:
                wrong["an edit that its version has not"] += 1
        elif own is not None:
            spells = [*asleep.get(own, []), *([(gone[own], time.time())] if own in gone else [])]
            if not any(start - _DELAY <= one.ended and one.began - _DELAY <= stop for start, stop in spells):
                wrong["no edit where one was active"] += 1
    waits = sorted(one.ended - one.began for one in asked)
    return {
        "requests": len(asked),
        "fired": sum(one.horen is not None for one in asked),
        "failed": sum(count for why, count in wrong.items() if why.startswith("status")),
        "wrong": sum(count for why, count in wrong.items() if not why.startswith("status")),
        "why": dict(wrong),
        "versions": len(versions),
        "changes": len(changes),
        "active at the end": published,
        "seconds": {"median": waits[len(waits) // 2], "worst": waits[-1]},
    }


def visible(stores: Path, count: int) -> dict[str, Any]:
    """Return how long it takes after a commit until an answer is that of the new version."""
    copy = stores / "visible.db"
    for ending in ("", "-wal", "-shm"):
        Path(f"{copy}{ending}").unlink(missing_ok=True)
    shutil.copy(stores / "many.db", copy)
    prompts = listed(copy, 200)
    with served(copy, "--no-trainer") as running:
        waits = asyncio.run(_visible(running.url, prompts, count))
    return {"changes": len(waits), "median": statistics.median(waits), "worst": max(waits)}


async def _visible(url: str, prompts: dict[str, int], count: int) -> list[float]:
    waits = []
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        own, _ = await _quiet(url, prompts, [])
        for number in range(count):
            prompt = own[number % len(own)]
            for there in (False, True):
                answer = (
                    await client.post("/undo", json={})
                    if there
                    else await client.request("DELETE", f"/edits/{prompts[prompt]}")
                )
                assert answer.status_code == 200, answer.text
                began = time.perf_counter()
                while await _answers(client, prompt, prompts[prompt]) is not there:
                    await asyncio.sleep(0.01)
                waits.append(time.perf_counter() - began)
    return waits


async def _answers(client: httpx2.AsyncClient, prompt: str, number: int) -> bool:
    """Return whether an edit answers a prompt; while it is away another that is near may."""
    told = (await ask(client, prompt, 1)).horen
    return told is not None and told["edit"] == number


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "clients", "throughput", "visible", "malformed"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--stores", type=Path)
    parser.add_argument("--trained", type=int, default=200)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "make":
        print(json.dumps(make(given.data, given.trained, given.entries, given.out), indent=2))
        return
    measure = {
        "clients": lambda: clients(given.stores, given.seconds),
        "throughput": lambda: throughput(given.stores, given.requests),
        "visible": lambda: visible(given.stores, min(given.count, 25)),
        "malformed": lambda: malformed(given.stores, given.count),
    }
    found = measure[given.what]()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
