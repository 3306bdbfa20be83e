"""How often a rephrase comes nearest to its own edit, as the codebook grows to all facts of a data set.

    python benchmarks/many.py --dataset entity_questions --data entity_questions.jsonl --edits 1000 10000 50000 \
        --calibration smollm2-135m-instruct --out many.json

Records are taken in an order shuffled by a seed, so that every relation is there at every size. Keys are made of the
edit prompts, queries of each record's first rephrase; no value is trained. With --index also how often the approximate
index proposes what the exact search finds.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from horen import Editor, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.plan import circumstances
from horen.edits import same_text
from horen.memory.search.index import BESIDE, Index, IndexedKeys
from horen.store.calibration import Calibration
from routing import Router

_SEED = 0
_TEXTS = 2048
_QUERIES = 256
_ROUNDING = 1e-6
_MOST_QUERIES = 10_000  # of a codebook's edits, drawn by chance: enough for a share's third digit


def keys_of(router: Router, texts: list[str]) -> Tensor:
    """Return [n, d] unit keys of the whole of each text."""
    parts = []
    for start in track(range(0, len(texts), _TEXTS), description="reading", disable=not sys.stderr.isatty()):
        parts += [rows[0] for rows in router.features(texts[start : start + _TEXTS])]
    return torch.stack(parts)


def measured(keys: Tensor, queries: Tensor, own: Tensor, targets: list[str], config: HorenConfig) -> dict[str, Any]:
    """Return the shares of queries nearest to their own key or one of the same target, and that wake their own."""
    gate, labels = config.retrieval(), torch.arange(len(keys), device=keys.device)
    right = woken = answered = 0
    began = time.perf_counter()
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, start + _QUERIES)
        found, scores = gate.retrieve(queries[part], keys, labels)
        hits = found.index == own[part]
        right += int(hits.sum())
        pairs = zip(found.index.tolist(), own[part].tolist(), strict=True)
        answered += sum(same_text(targets[nearest]) == same_text(targets[mine]) for nearest, mine in pairs)
        woken += int((hits & (scores > config.threshold)).sum())
    seconds = time.perf_counter() - began
    count = len(queries)
    return {
        "edits": len(keys),
        "queries": count,
        "top_1": right / count,
        "top_1_same_target": answered / count,
        "found": woken / count,
        "milliseconds_a_query": 1e3 * seconds / count,
    }


def recall(keys: Tensor, queries: Tensor, config: HorenConfig) -> float:
    """Return the share of queries for which the keys that an index proposes have one as near as any."""
    gate, labels, index = config.retrieval(), torch.arange(len(keys)), Index(keys.shape[1], config.index_candidates)
    index.take(keys)
    some = IndexedKeys(index, len(keys), lambda: None)
    found = 0
    for start in range(0, len(queries), _QUERIES):
        part = queries[start : start + _QUERIES]
        sure, _ = gate.retrieve(part, keys, labels)
        proposed, _ = gate.retrieve(part, keys, labels, index=some)
        found += int((proposed.similarity >= sure.similarity - _ROUNDING).sum())
    return found / len(queries)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="entity_questions")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edits", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--calibration", help="folder or name of a calibration, in the place of the preset's reading")
    parser.add_argument("--index", action="store_true", help="measure the recall of the approximate index (on the CPU)")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    dataset = load(given.dataset, given.data)
    records = list({same_text(record.prompt): record for record in dataset.records if record.rephrases}.values())
    random.Random(_SEED).shuffle(records)  # noqa: S311 - an order, not a secret
    records = records[: max(given.edits)]
    calibration = Calibration.load(given.calibration) if given.calibration else None
    config = HorenConfig.from_preset(given.preset)
    editor = Editor.from_pretrained(given.model, config, calibration=calibration, device=given.device)
    router = Router(editor)
    keys = keys_of(router, [record.prompt for record in records])
    asked = keys_of(router, [record.rephrases[0] for record in records])
    results = []
    for count in given.edits:
        some = min(count, len(records))
        own = torch.randperm(some, generator=torch.Generator().manual_seed(_SEED))[:_MOST_QUERIES].to(keys.device)
        targets = [record.target for record in records]
        results.append(measured(keys[:some], asked[own], own, targets, editor.config))
        if given.index and some > BESIDE:  # fewer have no codes
            results[-1]["index_recall"] = recall(keys[:some].cpu(), asked[own].cpu(), editor.config)
        sys.stdout.write(json.dumps(results[-1]) + "\n")
    told = {name: value for name, value in vars(given).items() if name not in {"data", "out", "calibration"}}
    told["calibrated"] = calibration is not None
    manifest = {"arguments": told, **circumstances(dataset, given.device)}
    write_text(given.out, json.dumps({"manifest": manifest, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
