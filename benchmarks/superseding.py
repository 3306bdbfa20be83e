"""Superseding found by the gate: are corrections in other words recognised, and new facts left alone?

    python benchmarks/superseding.py --dataset zsre --data zsre_mend_train_10000.json --answers answers \
        --stored 5000:6000 --new 6000:7000 --out superseding.json

The prompts of the records --stored are stored. Their rephrases with another target are corrections, which
Editor.similar should find; the prompts of the records --new, with another target too, are new edits, which it should
not take for stored ones. No value is trained, since none is needed to compare. A new record with the subject and the
true answer of a stored one asks for the same fact, and is counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from horen import Edit, Editor, EditRecord, HorenConfig, Similar
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.plan import circumstances
from horen.bench.records import Record
from horen.cli.commands.edit import parse_settings
from horen.edits import same_text
from horen.store.operations import now
from routing import Router

_ANOTHER = "another answer than any stored one"
_SHOWN = 20

Fact = tuple[str, str]


def store(editor: Editor, records: Sequence[Record]) -> None:
    """Store prompts as further edits, whose values are nothing."""
    session = editor._session
    keys = [rows[:1] for rows in Router(editor).features([record.prompt for record in records])]
    codebook = session.codebook()
    nothing = torch.zeros(session.value_size)
    added = []
    for number, (record, key) in enumerate(zip(records, keys, strict=True), session.history.next_id):
        value = codebook.add_value(nothing)
        entries = tuple(codebook.add_entries(key, value))
        added.append(EditRecord(number, record.prompt, record.target, (), entries, value, 0.0, 0, True, False, now()))
    session.history.record("edit", added)


def similar(editor: Editor, texts: Sequence[str]) -> list[Similar | None]:
    """Return what each text looks like as an edit of its own."""
    return editor.similar([Edit(text, _ANOTHER) for text in texts])


def at(
    threshold: float, corrected: Sequence[tuple[float, bool, bool]], fresh: Sequence[float], same: Sequence[float]
) -> dict[str, float]:
    """Return shares at a threshold: corrections whose fact was found, and new edits taken for a stored one."""
    taken = [(right, own) for score, right, own in corrected if score > threshold]
    right = sum(hit for hit, _ in taken)
    wrong = sum(score > threshold for score in fresh)
    return {
        "threshold": threshold,
        "found": right / len(corrected),
        "found_own": sum(own for _, own in taken) / len(corrected),
        "wrong": wrong / len(fresh),
        "wrong_with_same_facts": (wrong + sum(s > threshold for s in same)) / (len(fresh) + len(same)),
        "precision": right / max(len(taken) + wrong, 1),
    }


def measured(editor: Editor, stored: list[Record], new: list[Record], facts: dict[int, Fact]) -> dict[str, Any]:
    """Measure corrections and new edits against what is stored, at the default threshold and at 1 % wrong."""
    known = {facts[record.number] for record in stored}
    pairs = [(record, record.rephrases[0]) for record in stored if record.rephrases]
    corrected = []
    for (record, _), found in zip(pairs, similar(editor, [text for _, text in pairs]), strict=True):
        hit = stored[found.id - 1] if found is not None else None
        right = hit is not None and facts[hit.number] == facts[record.number]
        corrected.append((found.score if found is not None else -1.0, right, hit is record))
    looks = similar(editor, [record.prompt for record in new])
    scores = [found.score if found is not None else -1.0 for found in looks]
    fresh = [score for record, score in zip(new, scores, strict=True) if facts[record.number] not in known]
    same = [score for record, score in zip(new, scores, strict=True) if facts[record.number] in known]
    default = HorenConfig().similar_threshold
    allowed = sorted(fresh, reverse=True)[int(0.01 * len(fresh))]
    wrong = sorted(
        (
            {"new": record.prompt, "stored": found.prompt, "score": round(found.score, 3)}
            for record, found in zip(new, looks, strict=True)
            if found is not None and found.score > default and facts[record.number] not in known
        ),
        key=lambda item: -item["score"],
    )
    return {
        "stored": len(stored),
        "corrections": len(corrected),
        "new": len(fresh),
        "new_about_stored_facts": len(same),
        "default": at(default, corrected, fresh, same),
        "one_percent_wrong": at(allowed, corrected, fresh, same),
        "thresholds": [at(step / 100, corrected, fresh, same) for step in range(40, 81, 5)],
        "wrong_at_default": wrong[:_SHOWN],
    }


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="zsre")
    parser.add_argument("--data", type=Path, required=True, help="a JSON list")
    parser.add_argument("--answers", required=True, help="field of the file that holds the true answer")
    parser.add_argument("--stored", required=True, metavar="FROM:TO", help="usable records, counted from 0")
    parser.add_argument("--new", required=True, metavar="FROM:TO")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    parts = [slice(*map(int, part.split(":"))) for part in (arguments.stored, arguments.new)]
    dataset = load(arguments.dataset, arguments.data, limit=max(part.stop for part in parts))
    raw = json.loads(arguments.data.read_text(encoding="utf-8"))
    facts = {
        record.number: (str(record.subject), json.dumps(raw[record.number - 1][arguments.answers]).lower())
        for record in dataset.records
    }
    stored, others = ({same_text(r.prompt): r for r in dataset.records[part]} for part in parts)
    new = [record for text, record in others.items() if text not in stored]
    # Below every score, so that the whole curve is seen.
    config = HorenConfig.from_preset(arguments.preset, **parse_settings(arguments.set) | {"similar_threshold": -1.0})
    editor = Editor.from_pretrained(arguments.model, config, device=arguments.device)
    store(editor, list(stored.values()))
    result = measured(editor, list(stored.values()), new, facts)
    told = {name: given for name, given in vars(arguments).items() if name not in {"data", "out"}}
    manifest = {"arguments": told, **circumstances(dataset, arguments.device)}
    write_text(arguments.out, json.dumps({"manifest": manifest, "results": result}, indent=1) + "\n")
    sys.stdout.write(json.dumps({name: result[name] for name in ("default", "one_percent_wrong")}) + "\n")


if __name__ == "__main__":
    main()
