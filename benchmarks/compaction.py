"""What compaction gives: a codebook of which every second entry is asleep, before and after it.

    python benchmarks/compaction.py --entries 40000 --out compaction.json

Keys and values are random, of the size that SmolLM2-135M-Instruct's have with the preset ``activations``. Told are the
bytes of the folder and the times of look-ups (which edits some prompts wake, and to which one each is nearest) and of a
removal in the folder, before and after in turn in one process, as medians. Times are of the processor, so that other
jobs on the machine do not count. Set the threads with OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from filling import remember
from horen import HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.editing.compact import compact_folder
from horen.memory import Codebook
from horen.store import write_folder
from horen.store.history import History
from horen.store.operations import now
from horen.store.state import Saved, remove_from_folder
from horen.store.tables import filled

_DIMENSION, _VALUE = 512, 576
_CONFIG = HorenConfig.from_preset("activations")


def make(entries: int, folder: Path) -> None:
    """Save a codebook of so many edits, those of even numbers removed; it is of no model, for none is asked."""
    generator, history = torch.Generator().manual_seed(0), History()
    remember(history, entries)
    history.record("remove", removed=range(2, entries + 1, 2))
    write_folder(
        folder,
        config={"settings": _CONFIG.to_saved(), "model": {"source": None}, "saved": now(), "edits": len(history)},
        records=history.lines(),
        tensors={
            "keys": _CONFIG.of_keys().pack(normalize(torch.randn(entries, _DIMENSION, generator=generator), dim=-1)),
            "values": _CONFIG.storage().pack(torch.randn(entries, _VALUE, generator=generator)).numbers,
            "value_of": torch.arange(entries),
        },
    )


def opened(folder: Path) -> Codebook:
    """Return the codebook of a folder."""
    saved = Saved.read(folder)
    tensors = saved.folder.tensors
    return filled(tensors["keys"], saved.values(tensors), tensors["value_of"], saved.history, saved.config)


def in_turn(actions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of processor time of each action, all once a round; the first does not count."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            began = time.process_time()
            action()
            if number:
                times[name].append(1e3 * (time.process_time() - began))
    return {name: round(statistics.median(some), 2) for name, some in times.items()}


def asked(keys: Tensor, count: int) -> Tensor:
    """Return queries [count, d_k] at cosines of about 0.7 to keys drawn by chance."""
    generator = torch.Generator().manual_seed(1)
    own = keys[torch.randint(len(keys), (count,), generator=generator)]
    return normalize(own + normalize(torch.randn(own.shape, generator=generator), dim=-1), dim=-1)


def measured(given: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Make both folders and compare them."""
    make(given.entries, place / "before")
    shutil.copytree(place / "before", place / "after")
    began = time.process_time()
    dropped = compact_folder(place / "after")
    found: dict[str, Any] = {"entries": given.entries, "dropped": dropped.entries, "freed": dropped.freed}
    found["compact_s"] = round(time.process_time() - began, 2)
    books = {name: opened(place / name) for name in ("before", "after")}
    found["bytes"] = {
        name: sum((place / name / file).stat().st_size for file in ("codebook.safetensors", "edits.jsonl"))
        for name in books
    }
    gate = _CONFIG.retrieval()
    for batch in given.batches:
        queries, prompts = asked(books["after"].keys, batch), torch.arange(batch)
        # Sums over other keys that weigh nothing are rounded otherwise.
        scores = [torch.tensor([one.score for one in book.match(queries, gate)]) for book in books.values()]
        found[f"largest_difference_of_{batch}"] = float((scores[0] - scores[1]).abs().max())
        found[f"look_up_of_{batch}_ms"] = in_turn(
            {n: lambda b=b, q=queries, p=prompts: b.waking(q, gate, prompts=p) for n, b in books.items()}, given.rounds
        )
        found[f"matches_of_{batch}_ms"] = in_turn(
            {n: lambda b=b, q=queries: b.match(q, gate) for n, b in books.items()}, given.rounds
        )
    numbers = {name: itertools.count(1, 2) for name in books}  # of edits that are there
    found["removal_ms"] = in_turn(
        {n: lambda n=n: remove_from_folder(place / n, [next(numbers[n])]) for n in books}, given.rounds
    )
    return found


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=40_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measured(given, Path(place))
    write_text(given.out, json.dumps({**environment(), **found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
