"""What a store of edits stands, and how fast it is.

    python benchmarks/store.py kill --rounds 200
    python benchmarks/store.py faults
    python benchmarks/store.py rollback
    python benchmarks/store.py latency
    python benchmarks/store.py million --edits 1000000

Each subcommand writes benchmarks/results/store/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from horen.bench.files import write_text
from horen.bench.plan import environment
from store_faults import faults
from store_kills import kill
from store_latency import latency
from store_million import million
from store_rollback import rollback
from stores import KINDS

_OUT = Path(__file__).parent / "results" / "store"


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", help="a folder for what is measured; None for the system's")
    parser.add_argument("--out", type=Path, default=_OUT)
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("million", help="a store of very many edits")
    one.add_argument("--edits", type=int, default=1_000_000)
    one.add_argument("--kind", choices=KINDS, default="sqlite")
    one.set_defaults(run=million)
    one = commands.add_parser("kill", help="kill -9 of writers, followers and servers")
    one.add_argument("--rounds", type=int, default=200)
    one.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    one.set_defaults(run=kill)
    one = commands.add_parser("latency", help="from a change to a reader that has it")
    one.add_argument("--edits", type=int, nargs="+", default=[1_000, 10_000])
    one.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    one.set_defaults(run=latency)
    one = commands.add_parser("faults", help="full disks, damage, a database that is away")
    one.add_argument("--only", help="those alone that have this in their names")
    one.set_defaults(run=faults)
    one = commands.add_parser("rollback", help="the answers of every version of a history on a real model")
    one.add_argument("--versions", type=int, default=50)
    one.add_argument("--kind", choices=KINDS, default="sqlite")
    one.set_defaults(run=rollback)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    told = given.run(given)
    arguments = {name: value for name, value in vars(given).items() if name not in ("run", "out", "place", "what")}
    found = {**environment(), "arguments": arguments, "seconds": round(time.time() - began, 1), "results": told}
    write_text(given.out / f"{given.what}.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
