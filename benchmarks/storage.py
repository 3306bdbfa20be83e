"""What changes where keys and values are stored in fewer bytes: decisions, and answers.

    python benchmarks/storage.py keys --data zsre_mend_train_10000.json --edits 1000 --preset default --out keys.json
    python benchmarks/storage.py values --data zsre_mend_train_10000.json --first 7000 --edits 48 --out values.json

``keys`` routes the prompts of the edits, their first rephrases and their locality prompts through a codebook of the
edits' keys, once stored in float32 and once in int8, as a user's prompt is routed, judge included. A decision is which
edit is nearest and whether it fires. No value is trained, since none is needed to route. ``values`` trains edits with
each storage of values, the settings otherwise those of the preset, and asks prompt and rephrase in plain text and in
chat: how many steps it took, how many converged, how many answers are right to the letter, and how many are not the
words that values in float32 give.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from horen import Edit, Editor, Explanation, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.metrics.answers import exact_match
from horen.bench.plan import circumstances
from horen.bench.records import Record
from horen.edits import EditRecord
from horen.model.zoo.loading import load_model
from horen.store.operations import now

_BATCH = 32


def stored(editor: Editor, records: Sequence[Record]) -> None:
    """Put keys of all records into an empty editor, and edits without a trained value into its history."""
    session = editor._session
    codebook, edits = session.codebook(), []
    for number, record in enumerate(records):
        value = codebook.add_value(torch.zeros(session.value_size))
        keys = session.keys(session.contexts.wordings(Edit(record.prompt, record.target)))
        entries = tuple(codebook.add_entries(keys, value))
        edits.append(
            EditRecord(number + 1, record.prompt, record.target, (), entries, value, 0.0, 0, True, False, now())
        )
    session.history.record("edit", edits)


def routed(editor: Editor, texts: list[str]) -> list[Explanation]:
    """Return where each text goes."""
    found: list[Explanation] = []
    for start in track(range(0, len(texts), _BATCH)):
        found += editor.explain(texts[start : start + _BATCH], nearest=0)
    return found


def compared(one: list[Explanation], two: list[Explanation], own: list[int] | None) -> dict[str, Any]:
    """Return how many decisions of two storages differ, and how many are right in each."""
    pairs = list(zip(one, two, strict=True))
    fired = [tuple(found.edit_id if found.fired else None for found in pair) for pair in pairs]
    told: dict[str, Any] = {
        "texts": len(pairs),
        "another edit is nearest": sum(a.edit_id != b.edit_id for a, b in pairs),
        "fires in one alone": sum(a.fired != b.fired for a, b in pairs),
        "another edit fires": sum(a != b for a, b in fired),
        "greatest difference of a score": max(abs((a.score or 0) - (b.score or 0)) for a, b in pairs),
        "mean difference of a score": sum((b.score or 0) - (a.score or 0) for a, b in pairs) / len(pairs),
        "fired": [sum(a.fired for a in some) for some in (one, two)],
        "which": [
            {"text": a.text, "edits": [a.edit_id, b.edit_id], "scores": [a.score, b.score]}
            for (a, b), fires in zip(pairs, fired, strict=True)
            if fires[0] != fires[1]
        ],
    }
    if own is not None:
        told["own edit fired"] = [
            sum(a.fired and a.edit_id == number for a, number in zip(some, own, strict=True)) for some in (one, two)
        ]
    return told


def keys(records: Sequence[Record], given: argparse.Namespace) -> dict[str, Any]:
    """Return which decisions differ between storages of keys."""
    rephrased = [(number + 1, r.rephrases[0]) for number, r in enumerate(records) if r.rephrases]
    asked: dict[str, tuple[list[str], list[int] | None]] = {
        "prompts": ([record.prompt for record in records], list(range(1, len(records) + 1))),
        "rephrases": ([text for _, text in rephrased], [number for number, _ in rephrased]),
        "locality": ([negative.text for record in records for negative in record.negatives], None),
    }
    found: list[dict[str, list[Explanation]]] = []
    for storage in ("float32", "int8"):
        editor = Editor(*load_model(given.model), HorenConfig.from_preset(given.preset, key_storage=storage))
        stored(editor, records)
        found.append({name: routed(editor, texts) for name, (texts, _) in asked.items()})
    return {name: compared(found[0][name], found[1][name], own) for name, (_, own) in asked.items()}


def values(records: Sequence[Record], given: argparse.Namespace) -> dict[str, Any]:
    """Return what editing costs and what is answered with each storage of values."""
    answers: dict[str, list[str]] = {}
    told: dict[str, Any] = {}
    for storage in given.storages:
        editor = Editor(*load_model(given.model), HorenConfig.from_preset(given.preset, value_storage=storage))
        editor.prepare()
        began = time.process_time()
        receipts = editor.edit([Edit(record.prompt, record.target) for record in records])
        found: dict[str, Any] = {
            "steps": sum(receipt.steps for receipt in receipts) / len(receipts),
            "converged": sum(receipt.converged for receipt in receipts),
            "editing_processor_s": round(time.process_time() - began, 1),
        }
        answers[storage] = []
        for kind, texts in (
            ("prompt", [record.prompt for record in records]),
            ("rephrase", [record.rephrases[0] for record in records]),
        ):
            for chat in (False, True):
                batches = [texts[start : start + 8] for start in range(0, len(texts), 8)]
                said = [text for batch in batches for text in editor.generate(batch, 24, chat=chat)]
                right = [exact_match(text, [record.target]) for text, record in zip(said, records, strict=True)]
                found[f"{kind} in chat" if chat else kind] = int(sum(right))
                answers[storage] += said
        first = answers[given.storages[0]]
        found["other answers"] = sum(a != b for a, b in zip(answers[storage], first, strict=True))
        told[storage] = found
        print(storage, json.dumps(found), flush=True)
    return told


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keys", "values"))
    parser.add_argument("--dataset", default="zsre")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="records that are left out")
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--storages", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    dataset = load(given.dataset, given.data, limit=given.first + given.edits)
    records = dataset.records[given.first :]
    told = keys(records, given) if given.what == "keys" else values(records, given)
    head = {**circumstances(dataset, None), "first": given.first, "edits": len(records), "preset": given.preset}
    write_text(given.out, json.dumps({**head, **told}, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
