"""One stream of several data sets: a file of the format jsonl, its records in a shuffled order.

    python benchmarks/mixed_stream.py --part zsre zsre.json 9965 --part counterfact counterfact-edit.json 10000 \\
        --part entity_questions entity_questions.jsonl 30035 --out mixed-50000.jsonl

Of each file the first records are taken. Contradictions between parts stay: a run supersedes, and scores the latest.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.records import NEGATIVES, Record


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs=3, action="append", required=True, metavar=("FORMAT", "FILE", "EDITS"))
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for name, path, count in given.part:
        records = load(name, path, limit=int(count)).records
        rows += [row(record) for record in records]
        print(f"{name}: {len(records)} records")
    random.Random(given.seed).shuffle(rows)  # noqa: S311
    write_text(given.out, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rows))


def row(record: Record) -> dict[str, Any]:
    """Return a record as a line of the format jsonl."""
    negatives = {kind: [n.text for n in record.negatives if n.kind == kind] for kind in NEGATIVES}
    questions = [{"text": q.text, "answers": list(q.answers), "kind": q.kind} for q in record.questions]
    found = {
        "prompt": record.prompt,
        "target": record.target,
        "rephrases": list(record.rephrases),
        **negatives,
        "questions": questions,
        "subject": record.subject,
    }
    return {name: value for name, value in found.items() if value}


if __name__ == "__main__":
    main()
