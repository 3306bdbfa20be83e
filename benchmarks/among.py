"""Some edits of a stream among all of its prompts: what a long stream comes to without training all of it.

    python benchmarks/among.py mixed-50000 --path mixed-50000.jsonl --base none/base.json --out among.json

An edit's value does not depend on what else is stored, and what it answers depends on the others only through which
entry a prompt wakes. So the values of a sample are trained, and of all other edits in force the prompts are stored,
with values of nothing. The sample is asked at every checkpoint. A question that wakes an untrained entry has no right
answer, so that it counts as wrong, and as changed where it should have been left alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from horen.bench.asking import Asker, Stored
from horen.bench.files import write_text
from horen.bench.plan import Plan, in_force, manifest, stream
from horen.bench.records import Record
from horen.bench.run import read_answers, records_of, write_answers
from horen.bench.summary import summarise
from horen.editors import open_method
from horen.editors.horen.method import CodebookMethod
from horen.edits import Edit, same_text
from horen.model.zoo.loading import load_model
from suite import METHODS, STREAMS, Log
from superseding import store


def store_rest(method: CodebookMethod, held: Sequence[Stored]) -> None:
    """Store prompts of edits in force that are not stored yet, without values."""
    known = {same_text(record.prompt) for record in method.editor._session.history.active()}
    store(method.editor, [item.record for item in held if same_text(item.record.prompt) not in known])


def checkpoint(
    asker: Asker, edits: Sequence[Record], count: int, sample: Sequence[Stored], log: Log, seed: int
) -> dict[str, Any]:
    """Return scores of the sample's edits that are still in force after so many edits."""
    held = in_force(edits, count, 0, seed)
    assert isinstance(asker.method, CodebookMethod)
    store_rest(asker.method, held)
    latest = {item.position for item in held}
    asked = [item for item in sample if item.position in latest]
    edited = frozenset(same_text(record.prompt) for record in edits[:count])
    rows = asker.rows(asked, edited, log)
    return {"seed": seed, "edits": count, "costs": {}, "scores": summarise(rows, count, unstructured=False)}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", choices=STREAMS)
    parser.add_argument("--path", type=Path, required=True, help="the data set's file")
    parser.add_argument("--method", choices=[n for n, how in METHODS.items() if how["method"] == "horen"])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--sample", type=int, default=500, help="edits that are trained, of the first checkpoint's")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--base", type=Path, help="the untouched model's answers, kept between runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    chosen, counts = STREAMS[given.stream], sorted(given.checkpoints)
    how = METHODS[given.method or "horen-default"]
    plan = Plan(
        dataset=chosen.dataset,
        path=str(given.path),
        edits=counts[-1],
        skip=chosen.skip,
        batch=given.batch,
        sample=given.sample,
        model=given.model,
        dtype=chosen.dtype,
        intermediate=False,
        **how,
    )
    dataset, log = records_of(plan), Log(given.stream)
    edits = stream(dataset.records[plan.skip :], plan.edits, 0)
    sample = in_force(edits, counts[0], plan.sample, 0)
    model, tokenizer = load_model(plan.model, dtype=plan.dtype)
    method = open_method(plan.method, model, tokenizer, preset=plan.preset, settings=plan.settings)
    assert isinstance(method, CodebookMethod)
    for first in range(0, len(sample), plan.batch):
        part = [item.record for item in sample[first : first + plan.batch]]
        method.edit([Edit(record.prompt, record.target, subject=record.subject) for record in part])
        log("editing", first + len(part), len(sample))
    budgets = plan.answer_budget(unstructured=False), plan.detail_budget(unstructured=False)
    asker = Asker(method, *budgets, False, {} if given.base is None else read_answers(given.base))
    document = manifest(plan, dataset)
    document["plan"]["path"] = given.path.name
    found: list[dict[str, Any]] = []
    for count in counts:
        found.append(checkpoint(asker, edits, count, sample, log, 0))
        print(json.dumps({"edits": count} | found[-1]["scores"]["headline"]), flush=True)
        result = {"name": f"{plan.method} {plan.preset}", "trained": len(sample), "manifest": document}
        write_text(given.out, json.dumps(result | {"checkpoints": found}, indent=1, ensure_ascii=False) + "\n")
        if given.base is not None:
            write_answers(given.base, asker.base)


if __name__ == "__main__":
    main()
