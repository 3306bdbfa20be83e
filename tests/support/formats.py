"""Records of one public format, read from a file that holds a good record as well."""

from __future__ import annotations

import json
from pathlib import Path

from horen.bench.datasets import load
from horen.bench.records import Record, Rejected

ANSWERS = "text, a list of texts or a list of such lists is expected"


def read(folder: Path, name: str, *values: object) -> tuple[tuple[Record, ...], tuple[Rejected, ...]]:
    good: dict[str, dict[str, object]] = {
        "zsre": {"src": "Last?", "alt": "yes"},
        "counterfact": {"prompt": "Last?", "target_new": "yes"},
        "wikibigedit": {"update": "Last?", "ans": "yes"},
        "unke": {"question": "Last?", "answer": "yes"},
        "qaedit": {"prompt": "Last?", "target": "yes"},
        "knowedit": {"prompt": "Last?", "target_new": "yes"},
        "jsonl": {"prompt": "Last?", "target": "yes"},
    }
    path = folder / "data.json"
    path.write_text(json.dumps([*values, good[name]]))
    dataset = load(name, path)
    return dataset.records[:-1], dataset.rejected


def one(folder: Path, name: str, value: object) -> Record:
    (record,), rejected = read(folder, name, value)
    assert rejected == ()
    return record


def reason(folder: Path, name: str, value: object) -> str:
    records, (rejected,) = read(folder, name, value)
    assert records == ()
    return rejected.reason
