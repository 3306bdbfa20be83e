"""Which decisions change where keys are stored in fewer bytes: every prompt is routed with both storages.

    python benchmarks/stored_keys.py --dataset zsre --data zsre_mend_train_10000.json --edits 1000 \
        --preset default --out stored_keys.json

Prompts of the edits, their first rephrases and their locality prompts are routed through a codebook of the edits' keys,
once stored in float32 and once in int8, as a prompt of a user is routed, judge included. A decision is which edit is
nearest and whether it fires. No value is trained, since none is needed to route.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from horen import Edit, Editor, Explanation, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.plan import circumstances
from horen.bench.records import Record
from horen.edits import EditRecord
from horen.model.zoo.loading import load_model
from horen.store.history import now

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
        "fired": [sum(a.fired for a in some) for some in (one, two)],
    }
    if own is not None:
        told["own edit fired"] = [
            sum(a.fired and a.edit_id == number for a, number in zip(some, own, strict=True)) for some in (one, two)
        ]
    return told


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="zsre")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    dataset = load(given.dataset, given.data, limit=given.edits)
    records = dataset.records
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
    told = {name: compared(found[0][name], found[1][name], own) for name, (_, own) in asked.items()}
    document = {**circumstances(dataset, None), "edits": len(records), "preset": given.preset, **told}
    write_text(given.out, json.dumps(document, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
