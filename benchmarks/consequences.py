"""Questions that need a stored fact without asking for it: recall beside retrieval in context and the untouched model.

    python benchmarks/consequences.py --part unke final_data_v2.json 50 --model smollm2-135m-instruct \
        --methods none horen-recall retrieval retrieval-cued --out details.json
    python benchmarks/consequences.py --part zsre zsre_mend_edit_1037.json 300 --beside zsre_mend_train_10000.json 700 \
        --model qwen2.5-coder-1.5b-instruct --out one-hop.json

The facts of all parts are stored, with values of nothing: recall needs none. A question that wakes an edit is counted
as wrong, because what a value would say to it is not asked here. With --beside so many ZsRE facts are stored beside.
An answer counts as right if it contains one of the known ones.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.metrics.answers import containment
from horen.bench.metrics.statistics import estimate
from horen.bench.plan import environment
from horen.bench.records import Record
from horen.bench.scorer import answers
from horen.editors import open_method
from horen.editors.horen.method import CodebookMethod
from horen.editors.interface import Method
from horen.edits import Edit, same_text
from horen.model.zoo.loading import load_model
from suite import METHODS, Log
from superseding import store

_BUDGET = 24
_SHOWN = 12


@dataclass(frozen=True)
class Asked:
    """A question with what counts as right, and the number of the fact that it needs."""

    kind: str
    text: str
    right: tuple[str, ...]
    fact: int


def latest(records: Sequence[Record]) -> list[Record]:
    """Return the last record of each prompt."""
    return list({same_text(record.prompt): record for record in records}.values())


def measured(method: Method, records: Sequence[Record], asked: Sequence[Asked], log: Log) -> dict[str, Any]:
    """Return the shares by kind of question whose answers contain a right one."""
    if isinstance(method, CodebookMethod):
        store(method.editor, records)
    else:
        method.edit([Edit(record.prompt, record.target) for record in records])
    texts = list(dict.fromkeys(one.text for one in asked))
    routes = method.routes(texts) if isinstance(method, CodebookMethod) else None
    woken = {text for text, route in zip(texts, routes or [], strict=True) if route.fired} if routes else set()
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        log("asking", done, len(texts))

    began = time.perf_counter()
    said, _ = answers(method, texts, budget=_BUDGET, batch=16, progress=told)
    seconds = time.perf_counter() - began
    words = {text: answer.text for text, answer in zip(texts, said, strict=True)}
    result: dict[str, Any] = {"seconds_a_question": round(seconds / len(texts), 3)}
    for kind in dict.fromkeys(one.kind for one in asked):
        some = [one for one in asked if one.kind == kind]
        hits = [0.0 if one.text in woken else containment(words[one.text], one.right) for one in some]
        groups = {one.fact for one in some}
        by_fact = [[hit for one, hit in zip(some, hits, strict=True) if one.fact == fact] for fact in groups]
        result[kind] = {
            "asked": len(some),
            "contains": sum(hits) / len(hits),
            "by_fact": asdict(estimate([sum(own) / len(own) for own in by_fact], seed=0)),
            "woken": sum(one.text in woken for one in some) / len(some),
            "empty": sum(not words[one.text] for one in some) / len(some),
            "shown": [[one.text, list(one.right), words[one.text]] for one in some[:_SHOWN]],
        }
    return result


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs=3, action="append", required=True, metavar=("FORMAT", "FILE", "FACTS"))
    parser.add_argument("--beside", nargs=2, metavar=("FILE", "FACTS"), help="ZsRE facts stored beside them")
    parser.add_argument("--questions", type=int, default=0, help="of each kind, drawn by chance; 0: all")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["none", "horen-recall", "retrieval-cued"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    parts = [load(name, path, limit=int(count)).records for name, path, count in given.part]
    records = latest([record for part in parts for record in part])
    asked = [Asked(q.kind, q.text, q.answers, i) for i, record in enumerate(records) for q in record.questions]
    if given.questions:
        drawn: list[Asked] = []
        for kind in dict.fromkeys(one.kind for one in asked):
            some = [one for one in asked if one.kind == kind]
            drawn += random.Random(0).sample(some, min(given.questions, len(some)))  # noqa: S311
        asked = drawn
    beside = [] if given.beside is None else load("zsre", given.beside[0], limit=int(given.beside[1])).records
    model, tokenizer = load_model(given.model, dtype=given.dtype)
    told = {name: value for name, value in vars(given).items() if name not in {"out", "part", "beside"}}
    told["parts"] = [[name, Path(path).name, count] for name, path, count in given.part]
    told["beside"] = given.beside and [Path(given.beside[0]).name, given.beside[1]]
    results: dict[str, Any] = {"stored": len(latest([*records, *beside]))}
    for name in given.methods:
        how = dict(METHODS[name])
        method = open_method(how.pop("method"), model, tokenizer, **how)
        try:
            results[name] = measured(method, latest([*records, *beside]), asked, Log(name))
        finally:
            method.close()
        shares = {kind: part["contains"] for kind, part in results[name].items() if isinstance(part, dict)}
        print(name, json.dumps(shares), results[name]["seconds_a_question"], flush=True)
        document = {"arguments": told, **environment(), "results": results}
        write_text(given.out, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
