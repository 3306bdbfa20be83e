"""Retrieval at any size: time against the machine's memory, an index, and a million entries.

    python benchmarks/retrieval.py exact --keys 50000 200000 1000000 --out exact.json
    python benchmarks/retrieval.py approximate --keys 1000000 --keys-dim 512 --out approximate.json
    python benchmarks/retrieval.py million --entries 1000000 --out million.json

``exact`` times the retrieval of B queries against a plain read (``torch.sum``) of the float32 keys in the same process
and in turn, and against whole tables of scores as they were made before; and what generation asks, which edits the
queries wake, all keys read or not. ``approximate`` times the exact search and the one by an index in turn, without a
Hopfield step, and measures what the index misses. ``million`` inserts, looks up,
removes, saves and loads, with the peak of resident memory. Keys are random unit vectors around random centres. Set the
threads with OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.memory import Codebook, Gate, Packed, Storage
from horen.memory.recall import about
from horen.memory.search.index import Index, IndexedKeys
from horen.memory.search.sketch import Sketch, fits
from horen.store import read_folder, write_folder

_DIMENSION, _VALUE = 512, 576
_TOGETHER = 1 << 14
_GATE = Gate(threshold=0.5, contrast=0.4, neighbours=8, alpha=0.1, beta=20.0, steps=0)


def clustered(count: int, *, seed: int = 0, to_a_centre: int = 50, dimension: int = _DIMENSION) -> Tensor:
    """Return [count, dimension] unit keys, about fifty around each centre, at cosines of 0.5 to it."""
    generator = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(max(1, count // to_a_centre), dimension, generator=generator), dim=-1)
    keys = torch.empty(count, dimension)
    for start in range(0, count, _TOGETHER):
        some = keys[start : start + _TOGETHER]
        own = centres[torch.randint(len(centres), (len(some),), generator=generator)]
        noise = normalize(torch.randn(some.shape, generator=generator), dim=-1)
        some[:] = normalize(own + 3**0.5 * noise, dim=-1)
    return keys


def asked(keys: Tensor, count: int) -> Tensor:
    """Return queries [count, 512] at cosines of about 0.7 to keys drawn by chance."""
    generator = torch.Generator().manual_seed(1)
    own = keys[torch.randint(len(keys), (count,), generator=generator)]
    return normalize(own + normalize(torch.randn(own.shape, generator=generator), dim=-1), dim=-1)


def whole(queries: Tensor, keys: Tensor, labels: Tensor, gate: Gate) -> Tensor:
    """Retrieve by whole tables of scores: one for the softmax, one for the search, one without the winner's."""
    for _ in range(gate.steps):
        weights = torch.softmax(gate.beta * (queries @ keys.T), dim=-1)
        queries = normalize(torch.lerp(queries, normalize(weights @ keys, dim=-1), gate.alpha), dim=-1)
    scores = queries @ keys.T
    index = scores.argmax(dim=-1)
    others = scores.masked_fill(labels[None] == labels[index][:, None], -torch.inf)
    return others.topk(gate.neighbours, dim=-1).values


def in_turn(actions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each action, all of them once a round."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if number:
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(some) for name, some in times.items()}


def exact(counts: list[int], batches: list[int], rounds: int) -> list[dict[str, Any]]:
    """Return the times of retrieval, without and with a Hopfield step."""
    results = []
    for count in counts:
        keys, labels = clustered(count), torch.arange(count)
        sketch = Sketch(_DIMENSION).take(keys) if fits(keys) else None
        book = Codebook(_DIMENSION, 1)
        book.fill(keys, Storage().pack(torch.zeros(count, 1)), labels)
        for batch in batches:
            queries, prompts = asked(keys, batch), torch.arange(batch)
            for steps in (0, 1):
                gate = Gate(threshold=0.5, contrast=0.4, neighbours=8, alpha=0.1, beta=20.0, steps=steps)
                actions = {
                    "read_keys_ms": lambda keys=keys: keys.sum(),
                    "retrieval_ms": lambda q=queries, k=keys, n=labels, g=gate, s=sketch: g.retrieve(q, k, n, sketch=s),
                    "waking_ms": lambda b=book, q=queries, g=gate, p=prompts: b.waking(q, g, prompts=p),
                    "float32_ms": lambda q=queries, k=keys, n=labels, g=gate: g.retrieve(q, k, n),
                    "whole_tables_ms": lambda q=queries, k=keys, n=labels, g=gate: whole(q, k, n, g),
                }
                found: dict[str, Any] = {"keys": count, "batch": batch, "steps": steps, **in_turn(actions, rounds)}
                found["gigabytes_a_second"] = keys.nbytes / found["read_keys_ms"] / 1e6
                found["of_bandwidth"] = found["read_keys_ms"] / found["retrieval_ms"]
                found["of_bandwidth_waking"] = found["read_keys_ms"] / found["waking_ms"]
                found["of_bandwidth_float32"] = found["read_keys_ms"] / found["float32_ms"]
                found["times_as_fast"] = found["whole_tables_ms"] / found["retrieval_ms"]
                results.append(found)
                print(json.dumps(found), flush=True)
        del keys, sketch, book
    return results


def approximate(counts: list[int], dimension: int, candidates: list[int], given: argparse.Namespace) -> list[Any]:
    """Return the times of retrieval with all keys and with those that an index proposes, and what it misses."""
    results = []
    for count in counts:
        keys, labels = clustered(count, dimension=dimension), torch.arange(count)
        sketch = Sketch(dimension).take(keys) if fits(keys) else None
        index = Index(dimension, 1)
        build_s = _seconds(lambda i=index, k=keys: i.take(k))
        asked_for = about(keys, given.queries)
        sure, scores = _GATE.retrieve(asked_for, keys, labels, sketch=sketch)
        for wanted in candidates:
            index.candidates = wanted
            some = IndexedKeys(index, count, lambda s=sketch: s)
            found, others = _GATE.retrieve(asked_for, keys, labels, index=some)
            told: dict[str, Any] = {
                "keys": count,
                "dimension": dimension,
                "candidates": wanted,
                "queries": given.queries,
                "recall": float((found.similarity >= sure.similarity).float().mean()),
                "greatest_error_of_a_score": float((others - scores).abs().amax()),
                "build_s": build_s,
                "bytes_a_key": index.nbytes / count,
            }
            for batch in given.batches:
                part = asked_for[:batch]
                actions = {
                    "exact_ms": lambda q=part, k=keys, n=labels, s=sketch: _GATE.retrieve(q, k, n, sketch=s),
                    "approximate_ms": lambda q=part, k=keys, n=labels, s=some: _GATE.retrieve(q, k, n, index=s),
                }
                times = in_turn(actions, given.rounds)
                told[f"batch_{batch}"] = times | {"times_as_fast": times["exact_ms"] / times["approximate_ms"]}
            results.append(told)
            print(json.dumps(told), flush=True)
        del keys, sketch, index
    return results


def million(entries: int, folder: Path) -> dict[str, Any]:
    """Return the seconds for each thing that is done to so many entries, and the peak of memory."""
    gate = Gate(threshold=0.5, contrast=0.4, neighbours=8, alpha=0.1, beta=20.0, steps=1)
    found: dict[str, Any] = {"entries": entries, "baseline_mebibytes": _peak()}
    book = _inserted(entries, found)
    queries = asked(book.keys, 16)
    before = _looked_up(book, queries, gate, found)
    # The tables are let go before the saved ones are read.
    _save(book, folder, found)
    book = Codebook(_DIMENSION, _VALUE)
    began = time.perf_counter()
    saved = read_folder(folder).tensors
    book.fill(saved["keys"], Packed.of(saved["values"]), saved["value_of"])
    found["load_s"] = time.perf_counter() - began
    found["look_up_after_loading_s"] = _seconds(lambda: book.match(queries[:1], gate))
    assert [match.entry for match in book.match(queries, gate)] == before
    found["peak_gibibytes"] = _peak() / 1024
    return found


def _inserted(entries: int, found: dict[str, Any]) -> Codebook:
    book, generator = Codebook(_DIMENSION, _VALUE), torch.Generator().manual_seed(2)
    times: list[float] = []
    for start in range(0, entries, _TOGETHER):
        keys = clustered(min(_TOGETHER, entries - start), seed=start)
        values = torch.randn(len(keys), _VALUE, generator=generator)
        began = time.perf_counter()
        for key, value in zip(keys, values, strict=True):
            book.add_entries(key[None], book.add_value(value))
        times.append(1e6 * (time.perf_counter() - began) / len(keys))
    found["insert_microseconds"] = {"first": times[0], "last": times[-1], "mean": statistics.mean(times)}
    return book


def _looked_up(book: Codebook, queries: Tensor, gate: Gate, found: dict[str, Any]) -> list[int]:
    """Look up and remove; the entries that are found."""
    found["first_look_up_s"] = _seconds(lambda: book.match(queries[:1], gate))
    found["look_up_ms"] = 1e3 * min(_seconds(lambda: book.match(queries[:1], gate)) for _ in range(3))
    found["look_up_16_ms"] = 1e3 * min(_seconds(lambda: book.match(queries, gate)) for _ in range(3))
    nearest = [match.entry for match in book.match(queries, gate)]
    found["remove_16_ms"] = 1e3 * _seconds(lambda: book.set_awake(nearest, False))
    assert not set(nearest) & {match.entry for match in book.match(queries, gate)}
    found["look_up_after_removal_ms"] = 1e3 * _seconds(lambda: book.match(queries[:1], gate))
    book.set_awake(nearest, True)
    return nearest


def _save(book: Codebook, folder: Path, found: dict[str, Any]) -> None:
    tensors = {"keys": book.keys, "values": book.values, "value_of": book.value_of}
    found["save_s"] = _seconds(lambda: write_folder(folder, config={}, records=[], tensors=tensors))
    found["bytes_an_entry"] = (folder / "codebook.safetensors").stat().st_size / book.entries


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _peak() -> float:
    """Most resident memory of this process so far, in MiB; mapped pages count while they are resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["exact", "approximate", "million"])
    parser.add_argument("--keys", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--keys-dim", type=int, default=_DIMENSION, help="dimensions of the keys (approximate)")
    parser.add_argument("--candidates", type=int, nargs="+", default=[128], help="that are rescored (approximate)")
    parser.add_argument("--queries", type=int, default=1000, help="by which recall is measured (approximate)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to save for a while; a temporary folder unless given")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        results: Any
        if given.what == "exact":
            results = exact(given.keys, given.batches, given.rounds)
        elif given.what == "approximate":
            results = approximate(given.keys, given.keys_dim, given.candidates, given)
        else:
            results = million(given.entries, place / "saved")
    finally:
        shutil.rmtree(place)
    told = {name: value for name, value in vars(given).items() if name not in {"out", "folder"}}
    told["threads"] = torch.get_num_threads()
    print(json.dumps(results, indent=1))
    write_text(given.out, json.dumps({"arguments": told, **environment(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
