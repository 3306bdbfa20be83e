"""Exact search of 8-bit keys: this package's copy against faiss, with the same bound and the same rescoring.

    python benchmarks/bytes.py --keys 10000 50000 200000 --threads 1 2 --out bytes.json

Each way finds the nearest candidates of random unit keys by a copy of them, scores those with the keys themselves and
says how many are certain to be the nearest. Times are medians of processor time, taken in turn in one process. The
signed bytes of faiss have one scale for all keys, those of this package one for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.memory.plain import Ranking
from horen.memory.recall import about
from horen.memory.search.nearest import ranking
from horen.memory.search.sketch import Sketch

_DIMENSION, _CANDIDATES, _WANTED = 512, 144, 8
_CODES = {"signed bytes": faiss.ScalarQuantizer.QT_8bit_direct_signed, "fitted bytes": faiss.ScalarQuantizer.QT_8bit}


class Copy:
    """Keys in an index of faiss, searched as :func:`horen.memory.search.nearest.ranking` searches a sketch."""

    def __init__(self, kind: str, keys: Tensor) -> None:
        metric, dimension = faiss.METRIC_INNER_PRODUCT, keys.shape[1]
        self.keys, self.whole = keys, kind == "signed bytes"
        self.scale = float(keys.abs().max()) / 127 if self.whole else 1.0
        rows = (keys / self.scale).round() if self.whole else keys
        plain = kind == "float32"
        self.codes = (
            faiss.IndexFlatIP(dimension) if plain else faiss.IndexScalarQuantizer(dimension, _CODES[kind], metric)
        )
        self.codes.train(rows.numpy())
        self.codes.add(rows.numpy())
        stored = torch.from_numpy(self.codes.reconstruct_n(0, len(keys)))
        self.error = float((keys - stored * self.scale).norm(dim=-1).max()) + dimension * torch.finfo(keys.dtype).eps
        # What the index says of a query of whole numbers, against the same product of whole numbers.
        asked = (keys[:4] * 127 / keys[:4].abs().amax(-1, keepdim=True)).round()
        said, found = map(torch.from_numpy, self.codes.search(asked.numpy(), 50))
        self.exact = bool((said.double() == (stored[found].double() * asked.double()[:, None]).sum(-1)).all())

    def ranking(self, queries: Tensor) -> Ranking:
        """Return the candidates by their true scores, and how many of these are certain."""
        asked, scale, lost = queries, torch.ones(len(queries), 1), torch.zeros(len(queries), 1)
        if self.whole:  # faiss makes bytes of the query as well
            scale = queries.abs().amax(-1, keepdim=True) / 127
            asked = (queries / scale).round()
            lost = (queries - asked * scale).norm(dim=-1, keepdim=True)
        said, found = map(torch.from_numpy, self.codes.search(asked.numpy(), _CANDIDATES))
        index = found.sort(dim=-1).values
        similarity, order = (self.keys[index] * queries[:, None]).sum(-1).sort(dim=-1, descending=True, stable=True)
        outside = said[:, -1:] * self.scale * scale + self.error + (1 + self.error) * lost
        return Ranking(similarity, index.gather(-1, order), (similarity > outside).sum(-1))


def compared(
    count: int, batch: int, threads: int, ways: dict[str, Any], queries: Tensor, rounds: int
) -> dict[str, Any]:
    """Return medians of processor time in milliseconds of each way, and whether all are certain and find the same."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    actions: dict[str, Callable[[], Ranking]] = {name: lambda w=way: w(queries) for name, way in ways.items()}
    expected = actions["this package"]().index[:, :_WANTED]
    times: dict[str, list[float]] = {name: [] for name in actions}
    found: dict[str, Any] = {"keys": count, "queries": batch, "threads": threads}
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.process_time()
            told = action()
            times[name].append(1000 * (time.process_time() - began))
            found[f"{name}: certain"] = int(told.known.min())
            found[f"{name}: same"] = torch.equal(told.index[:, :_WANTED], expected)
    return found | {f"{name}: ms": round(statistics.median(some), 3) for name, some in times.items()}


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    for count in given.keys:
        keys = normalize(torch.randn(count, _DIMENSION, generator=torch.Generator().manual_seed(0)), dim=-1)
        sketch = Sketch(_DIMENSION).take(keys)
        copies = {kind: Copy(kind, keys) for kind in (*_CODES, "float32")}
        ways: dict[str, Any] = {"this package": lambda q, k=keys, s=sketch: ranking(q, k, _CANDIDATES, sketch=s)}
        ways |= {kind: copy.ranking for kind, copy in copies.items()}
        whole = {f"{kind}: whole numbers exact": copy.exact for kind, copy in copies.items()}
        for batch in given.queries:
            for threads in given.threads:
                found = compared(count, batch, threads, ways, about(keys, batch), given.rounds) | whole
                results.append(found)
                print(json.dumps(found), flush=True)
    if given.out:
        write_text(given.out, json.dumps({**environment(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
