"""One fact of each subject of natural.jsonl, with other questions about it: a file of the format jsonl.

    python benchmarks/subjects_stream.py --out subjects.jsonl

The subject's second fact and three of the questions about it are its negatives, of the kind same_subject.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from horen.bench.files import write_text

_HERE = Path(__file__).parent / "data"
_OTHERS = 3


def row(subject: dict[str, Any]) -> dict[str, Any]:
    """Return a subject as a line of the format jsonl."""
    edited, second = subject["facts"][:2]
    return {
        "prompt": edited["prompt"],
        "target": edited["target"],
        "rephrases": edited["rephrases"],
        "same_subject": [second["prompt"], *subject["other"][:_OTHERS]],
        "subject": subject["subject"],
    }


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = (_HERE / "natural.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row(json.loads(line)) for line in lines if line.strip()]
    write_text(given.out, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rows))


if __name__ == "__main__":
    main()
