"""What edits cost an engine of vLLM, and whether it answers right while they change.

    python benchmarks/vllm_serving.py make --codebook DIR --entries 10000 --out MANY
    python benchmarks/vllm_serving.py cost --codebook MANY --model MODEL --data zsre.json --out cost.json
    python benchmarks/vllm_serving.py changes --codebook DIR --model MODEL --data zsre.json --out changes.json
    python benchmarks/vllm_serving.py turns --codebook DIR --model MODEL --data zsre.json --out turns.json
    python benchmarks/vllm_serving.py shards --codebook DIR --model MODEL --data zsre.json --out shards.json

``make`` is run where horen is, all else in the environment of `make test-vllm`.

``make`` fills a codebook up to so many edits: keys of further ZsRE prompts, which need no training to be routed, with
the values that are there, so what is said to those prompts is some other edit's answer.

``cost`` asks two engines in turn, one with the codebook and one of stock vLLM: 64 requests at once, all as long, of
which so many wake an edit as ``--share`` says; and one request at a time, for its first token.

``changes`` takes an edit away and puts it back, again and again, while 16 clients ask for it and for others: each
answer must be that of one version, which was the folder's between the moment the request came, less the second that a
change may take, and the moment it was answered.

``turns`` holds chats of two turns that share their beginning, with the prefix cache and without.

``shards`` asks the same of one worker and of two that share its layers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
_AT_ONCE, _TOKENS, _TURNS = 64, 32, 5
_DELAY = 1.0  # what a change may take until it is followed, in seconds
_BEFORE = (
    "You answer questions about the world for visitors of a library. Say what you know in a few words, without a "
    "preface, and leave out what was not asked. Names are written as they are in the sources of the library. "
) * 4


# Texts whose keys are made together.
_KEYS_AT_ONCE = 64


def make(codebook: Path, data: Path, entries: int, out: Path) -> dict[str, Any]:
    """Write a codebook of so many edits: the given one, and further keys with its values."""
    from horen import Edit, Editor  # noqa: PLC0415
    from horen.edits import EditRecord, same_text  # noqa: PLC0415
    from horen.store.operations import now  # noqa: PLC0415

    editor = Editor.load(codebook)
    session, book, known = editor._session, editor._session.codebook(), editor.edits()
    seen = {same_text(record.prompt) for record in known}
    added: list[EditRecord] = []
    records = json.loads(data.read_text(encoding="utf-8"))
    texts = [record[field].strip() for field in ("src", "loc", "rephrase") for record in records]
    wanted: list[str] = []
    for text in texts:
        if len(known) + len(wanted) < entries and text and same_text(text) not in seen:
            seen.add(same_text(text))
            wanted.append(text)
    for begin in range(0, len(wanted), _KEYS_AT_ONCE):
        some = wanted[begin : begin + _KEYS_AT_ONCE]
        likes = [known[number % len(known)] for number in range(begin, begin + len(some))]
        wordings = [session.contexts.wordings(Edit(text, one.target)) for text, one in zip(some, likes, strict=True)]
        keys = session.keys([wording for each in wordings for wording in each]).split([len(each) for each in wordings])
        for text, like, own in zip(some, likes, keys, strict=True):
            places = tuple(book.add_entries(own, like.value))
            number = session.history.next_id + len(added)
            added.append(EditRecord(number, text, like.target, (), places, like.value, 0.0, 0, True, True, now()))
        print(f"{len(known) + len(added)} of {entries} edits", flush=True)
    session.history.record("edit", added)
    editor.save(out)
    return {"edits": editor.edit_count}


def engine(model: str, codebook: Path | None, **options: Any) -> Any:
    """Return an asynchronous engine, with a codebook or of stock vLLM."""
    from vllm import AsyncEngineArgs  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    edits = {} if codebook is None else {"additional_config": {"horen": {"codebook": str(codebook)}}}
    given = {"dtype": "float32", "max_model_len": 1024, "max_num_seqs": _AT_ONCE, "block_size": 32, **options, **edits}
    return AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, disable_log_stats=True, **given))


async def ask(given: Any, prompt: Any, tokens: int, number: str, **extra: Any) -> tuple[float, Any]:
    """Return when the first token came, in seconds after the request, and the whole answer.

    A prompt is given as a server gives it: as token ids, made before the clock starts.
    """
    from vllm import SamplingParams  # noqa: PLC0415

    ids = given.input_processor.get_tokenizer()(prompt)["input_ids"] if isinstance(prompt, str) else prompt
    prompt = {"type": "token", "prompt_token_ids": list(ids)}
    params = SamplingParams(temperature=0, max_tokens=tokens, **extra)
    began, first, last = time.perf_counter(), 0.0, None
    async for output in given.generate(prompt, params, number):
        first, last = first or time.perf_counter() - began, output
    return first, last


async def many(given: Any, prompts: Sequence[str], name: str) -> float:
    """Return how long it takes to answer prompts, so many at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, prompt: str) -> None:
        async with gate:
            await ask(given, prompt, _TOKENS, f"{name}-{number}", ignore_eos=True)

    began = time.perf_counter()
    await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(prompts)))
    return time.perf_counter() - began


async def cost(given: argparse.Namespace) -> dict[str, Any]:
    """Return throughput and time to the first token of edited and stock engines, in turn."""
    records = json.loads(given.data.read_text(encoding="utf-8"))
    stored = [record["prompt"] for record in edits_of(given.codebook)]
    others = [record["loc"].strip() for record in records[7000:9000] if record["loc"].strip() not in set(stored)]
    draw = random.Random(0)  # noqa: S311
    both = {"stock": engine(given.model, None), "edits": engine(given.model, given.codebook)}
    found: dict[str, Any] = {"edits": len(stored), "share that wakes an edit": given.share, "tokens": _TOKENS}
    try:
        for one in both.values():
            await many(one, others[:8], "warm")
        for words, texts in (
            ("wakes none", others),
            ("wakes one", stored),
            ("long, wakes none", [f"{number} {_BEFORE * 2}{text}" for number, text in enumerate(others)]),
        ):
            found[f"first token, {words}"] = await first_tokens(both, draw.sample(texts, 40))
            print(words, json.dumps(found[f"first token, {words}"]), flush=True)
        times: dict[str, list[float]] = {name: [] for name in both}
        for turn in range(_TURNS):
            prompts = draw.sample(others, 2 * _AT_ONCE)
            woken = int(given.share * len(prompts))
            prompts[:woken] = draw.sample(stored, woken)
            draw.shuffle(prompts)
            for name in sorted(both, reverse=turn % 2 == 1):
                times[name].append(await many(both[name], prompts, f"{name}{turn}"))
        ratios = [a / b for a, b in zip(times["stock"], times["edits"], strict=True)]
        found["throughput"] = {"median ratio": statistics.median(ratios), "ratios": ratios, **times}
    finally:
        for one in both.values():
            one.shutdown()
    return found


async def first_tokens(both: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Return medians of the time to the first token, one request at a time, of each engine in turn."""
    times: dict[str, list[float]] = {name: [] for name in both}
    for number, text in enumerate(texts):
        for name in sorted(both, reverse=number % 2 == 1):
            first, _ = await ask(both[name], text, 1, f"first-{name}-{time.monotonic_ns()}")
            times[name].append(first)
    pairs = [b / a for a, b in zip(times["stock"], times["edits"], strict=True)]
    return {
        "pairs": len(pairs),
        "added": statistics.median(pairs) - 1,
        **{f"{name}, ms": 1000 * statistics.median(own) for name, own in times.items()},
    }


def edits_of(codebook: Path) -> list[dict[str, Any]]:
    """Return the fields of the active edits of a saved codebook."""
    from horen.store.recorded import Recorded  # noqa: PLC0415

    return [
        {"id": record.id, "prompt": record.prompt, "target": record.target}
        for record in Recorded.read(codebook).history.active()
    ]


class Changes:
    """Takes edits of a folder away and puts them back, one after the other, in a thread.

    Args:
        folder: the codebook.
        numbers: ids of the edits.
        count: how many changes.
        every: seconds between two.

    Attributes:
        log: when each version was saved, and which of the edits it lacks.
    """

    def __init__(self, folder: Path, numbers: Sequence[int], count: int, every: float) -> None:
        from horen.store.recorded import Recorded  # noqa: PLC0415

        self._folder, self._numbers, self._count, self._every = folder, numbers, count, every
        self._version = Recorded.read(folder).history.count
        self.log: list[tuple[float, int, int | None]] = [(0.0, self._version, None)]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether there are changes left."""
        return self._thread.is_alive()

    def _run(self) -> None:
        from horen.store.state import remove_from_folder, undo_in_folder  # noqa: PLC0415

        for change in range(self._count):
            time.sleep(self._every)
            number = self._numbers[change // 2 % len(self._numbers)]
            if change % 2 == 0:
                remove_from_folder(self._folder, [number])
            else:
                undo_in_folder(self._folder)
            self._version += 1
            self.log.append((time.time(), self._version, number if change % 2 == 0 else None))

    def lacking(self, begin: float, end: float) -> list[tuple[int, int | None]]:
        """Return versions and what they lack that a request between two moments may be answered with."""
        saved = [*self.log]
        first = max(n for n, (at, _, _) in enumerate(saved) if at <= begin - _DELAY or n == 0)
        return [(version, lacks) for at, version, lacks in saved[first:] if at <= end]


async def changes(given: argparse.Namespace) -> dict[str, Any]:
    """Return how many answers, while edits come and go, are not those of one version that was there."""
    folder = Path(tempfile.mkdtemp()) / "codebook"
    shutil.copytree(given.codebook, folder)
    stored = edits_of(folder)[:40]
    one = engine(given.model, folder)
    seen: list[dict[str, Any]] = []
    try:
        said = {True: {}, False: {}}
        for edit in stored:  # what is said with and without each edit, before anything changes
            for on in (True, False):
                extra = {} if on else {"extra_args": {"horen": "off"}}
                _, output = await ask(one, edit["prompt"], 12, f"before-{edit['id']}-{on}", **extra)
                said[on][edit["id"]] = output.outputs[0].text
        running = Changes(folder, [edit["id"] for edit in stored[:8]], given.count, 0.55)
        running.start()

        async def client(number: int) -> None:
            draw, asked = random.Random(number), 0  # noqa: S311
            while running.running:
                edit = draw.choice(stored[:8] if draw.random() < 0.7 else stored)
                begin = time.time()
                _, output = await ask(one, edit["prompt"], 12, f"c{number}-{asked}")
                asked += 1
                seen.append(
                    {
                        "edit": edit,
                        "begin": begin,
                        "end": time.time(),
                        "told": output.horen,
                        "said": output.outputs[0].text,
                    }
                )

        await asyncio.gather(*(client(number) for number in range(16)))
        wrong = [item for item in seen if not right(item, running, said)]
    finally:
        one.shutdown()
        shutil.rmtree(folder.parent)
    return {
        "changes": len(running.log) - 1,
        "requests": len(seen),
        "answered without the edit that was away": sum(item["told"] is None for item in seen),
        "versions that answered": len({item["told"]["version"] for item in seen if item["told"]}),
        "mixed, stale or another's": len(wrong),
        "which": wrong[:5],
    }


def right(item: dict[str, Any], running: Changes, said: dict[bool, dict[int, str]]) -> bool:
    """Return whether an answer is wholly that of a version which was there."""
    number, told = item["edit"]["id"], item["told"]
    possible = running.lacking(item["begin"], item["end"])
    if told is None:
        return item["said"] == said[False][number] and any(lacks == number for _, lacks in possible)
    there = any(version == told["version"] and lacks != number for version, lacks in possible)
    return told["edit"] == number and there and item["said"] == said[True][number]


async def turns(given: argparse.Namespace) -> dict[str, Any]:
    """Return how many second turns are answered otherwise with the prefix cache than without."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(given.model)
    stored = edits_of(given.codebook)
    follows = [
        "Are you sure?",
        "Thank you. Name three colours.",
        "And who told you so?",
        "What is the capital of France?",
    ]

    def ids(*said: str) -> list[int]:
        roles = ["user", "assistant", "user"]
        messages = [{"role": "system", "content": _BEFORE[: len(_BEFORE) // 2]}]
        messages += [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
        found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        return list(found)

    found: dict[str, list[Any]] = {}
    hits: dict[str, int] = {}
    for name, cached in (("warm", True), ("cold", False)):
        one = engine(given.model, given.codebook, enable_prefix_caching=cached, enforce_eager=True)
        gate, answers, hit = asyncio.Semaphore(16), [None] * given.count, [0]

        async def chat(number: int, one: Any = one, gate: Any = gate, answers: Any = answers, hit: Any = hit) -> None:
            async with gate:
                edit = stored[number % len(stored)]
                _, first = await ask(one, ids(edit["prompt"]), 12, f"a{number}")
                said = first.outputs[0].text
                _, second = await ask(one, ids(edit["prompt"], said, follows[number % 4]), 12, f"b{number}")
                hit[0] += (first.num_cached_tokens or 0) + (second.num_cached_tokens or 0)
                answers[number] = [said, first.horen and first.horen["edit"], second.outputs[0].text, second.horen]

        try:
            await asyncio.gather(*(chat(number) for number in range(given.count)))
        finally:
            one.shutdown()
        found[name], hits[name] = answers, hit[0]
        print(name, hits[name], flush=True)
    differ = [pair for pair in zip(found["warm"], found["cold"], strict=True) if pair[0] != pair[1]]
    return {
        "chats": given.count,
        "first turns that woke an edit": sum(one[1] is not None for one in found["warm"]),
        "tokens from the cache": hits,
        "differ from a cold cache": len(differ),
        "which": differ[:5],
    }


async def shards(given: argparse.Namespace) -> dict[str, Any]:
    """Return whether two workers that share the layers answer as one does."""
    records = json.loads(given.data.read_text(encoding="utf-8"))[6000 : 6000 + given.count // 2]
    prompts = [record[field].strip() for record in records for field in ("rephrase", "loc")]
    found = []
    for size in (1, 2):
        one = engine(given.model, given.codebook, tensor_parallel_size=size, enforce_eager=True)
        try:
            asked = [ask(one, prompt, 8, f"s{number}") for number, prompt in enumerate(prompts)]
            found.append([(output.horen, output.outputs[0].text) for _, output in await asyncio.gather(*asked)])
        finally:
            one.shutdown()
    return {
        "prompts": len(prompts),
        "fired": sum(told is not None for told, _ in found[0]),
        "same edit": sum(a[0] == b[0] for a, b in zip(*found, strict=True)) / len(prompts),
        "same answer": sum(a[1] == b[1] for a, b in zip(*found, strict=True)) / len(prompts),
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("make", "cost", "changes", "turns", "shards"))
    parser.add_argument("--codebook", type=Path, required=True)
    parser.add_argument("--model", help="the model's folder")
    parser.add_argument("--data", type=Path, help="ZsRE with MEND's fields")
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.1, help="of requests that wake an edit")
    parser.add_argument("--count", type=int, default=500, help="changes, chats or prompts")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.part == "make":
        print(make(given.codebook, given.data, given.entries, given.out))
        return
    parts = {"cost": cost, "changes": changes, "turns": turns, "shards": shards}
    found = asyncio.run(parts[given.part](given))
    print(json.dumps(found, indent=1))
    given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
