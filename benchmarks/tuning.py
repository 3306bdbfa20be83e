"""The settings of every editor, chosen for the model with one budget on records that no result is measured on.

    python benchmarks/tuning.py --path zsre_mend_train_10000.json --out tuned --methods ft rome

A search goes to OUT/METHOD and is gone on with where it was interrupted; what it chose is written to
benchmarks/results/tuned/METHOD.json, which benchmarks/suite.py reads.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import asdict
from pathlib import Path

from horen.bench.files import write_text
from horen.bench.plan import Plan
from horen.bench.tune import tune
from horen.editors import settings_of
from suite import OTHERS, TUNED, Log

# After the records that the results of ZsRE are measured on.
_SKIP = 7_000


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="zsre")
    parser.add_argument("--path", type=Path, required=True, help="the data set's file")
    parser.add_argument("--skip", type=int, default=_SKIP, help="records at the file's beginning that are left out")
    parser.add_argument("--edits", type=int, default=30)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    searched = [name for name in ("grace", *OTHERS) if settings_of(name).search]
    parser.add_argument("--methods", nargs="+", choices=searched, default=searched)
    parser.add_argument("--results", type=Path, default=TUNED)
    given = parser.parse_args()
    for name in given.methods:
        plan = Plan(*(given.dataset, str(given.path), name), edits=given.edits, skip=given.skip, batch=given.batch)
        found = tune(plan, given.out / name, trials=given.trials, resume=True, progress=Log(f"tuning {name}"))
        found = dataclasses.replace(found, validation=found.validation | {"path": given.path.name})
        given.results.mkdir(parents=True, exist_ok=True)
        write_text(given.results / f"{name}.json", json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")
        for trial in found.ranked:
            print(
                f"{name} {trial.merit[0]:.3f} {trial.merit[1]:.3f} {trial.seconds_an_edit or 0:.2f} s {trial.settings}",
                flush=True,
            )


if __name__ == "__main__":
    main()
