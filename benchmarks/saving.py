"""What saving costs in proportion to what changed: one edit more, and one edit less, in a codebook of many.

    python benchmarks/saving.py --entries 50000 --out saving.json

Keys and values are random, of the size that SmolLM2-135M-Instruct's have with the preset ``activations``. Each save is
made twice a round, in turn in one process: with what the folder holds known, as an editor and the commands know it, and
not known, so that all files are written anew. Told are medians of seconds on the clock, of processor seconds, and of
the bytes that the files have which were written.
"""

from __future__ import annotations

import argparse
import json
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
from horen.store import Known, write_folder
from horen.store.history import History
from horen.store.operations import now
from horen.store.state import GROWS, Saved, remove_from_folder

_DIMENSION, _VALUE = 512, 576
_CONFIG = HorenConfig.from_preset("activations")


class Book:
    """A codebook that is saved again and again; it is of no model, for none is asked."""

    def __init__(self, entries: int, rounds: int) -> None:
        generator = torch.Generator().manual_seed(0)
        room = entries + rounds + 1
        self.keys = _CONFIG.of_keys().pack(normalize(torch.randn(room, _DIMENSION, generator=generator), dim=-1))
        self.values = _CONFIG.storage().pack(torch.randn(room, _VALUE, generator=generator)).numbers
        self.count, self.history = entries, History()
        remember(self.history, entries)

    def tensors(self) -> dict[str, Tensor]:
        """Keys, values and their numbers."""
        count = self.count
        return {"keys": self.keys[:count], "values": self.values[:count], "value_of": torch.arange(count)}

    def save(self, folder: Path, known: Known | None) -> None:
        """Write it."""
        config = {"settings": _CONFIG.to_saved(), "model": {"source": None}, "saved": now(), "edits": len(self.history)}
        records, tensors = self.history.lines(), self.tensors()
        write_folder(folder, config=config, records=records, tensors=tensors, known=known, grows=GROWS)

    def add(self) -> None:
        """Have one edit more."""
        remember(self.history, 1)
        self.count += 1


def forget(folder: Path) -> None:
    """Remove an edit and write all files anew, as is done where what a folder holds is not known."""
    saved = Saved.read(folder)
    saved.history.record("remove", removed=[saved.history.active()[0].id])
    saved.write(saved.history, saved.folder.tensors)


def measured(folder: Path, action: Callable[[], Any]) -> tuple[float, float, int]:
    """Seconds, processor seconds, and bytes of the files that an action wrote."""
    before = {entry.name: entry.stat().st_ino for entry in folder.iterdir()}
    began, worked = time.perf_counter(), time.process_time()
    action()
    took, worked = time.perf_counter() - began, time.process_time() - worked
    return took, worked, sum(e.stat().st_size for e in folder.iterdir() if before.get(e.name) != e.stat().st_ino)


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    book, known = Book(given.entries, given.rounds), Known()
    found: dict[str, list[tuple[float, float, int]]] = {}
    with tempfile.TemporaryDirectory() as place:
        grown, whole = Path(place) / "grown", Path(place) / "whole"
        book.save(grown, known)
        book.save(whole, None)
        for _ in range(given.rounds):
            book.add()
            found.setdefault("an edit more, known", []).append(measured(grown, lambda: book.save(grown, known)))
            found.setdefault("an edit more, all anew", []).append(measured(whole, lambda: book.save(whole, None)))
        for number in range(1, given.rounds + 1):
            found.setdefault("an edit less, known", []).append(
                measured(grown, lambda number=number: remove_from_folder(grown, [number]))  # type: ignore[misc]
            )
            found.setdefault("an edit less, all anew", []).append(measured(whole, lambda: forget(whole)))
        for name, folder in (("read, with additions", grown), ("read, without", whole)):
            found[name] = [measured(folder, lambda folder=folder: Saved.read(folder)) for _ in range(given.rounds)]  # type: ignore[misc]
    names = ("seconds", "processor_s", "bytes")
    told = {
        kind: dict(zip(names, (round(statistics.median(column), 4) for column in zip(*rows, strict=True)), strict=True))
        for kind, rows in found.items()
    }
    write_text(given.out, json.dumps({**environment(), "entries": given.entries, **told}, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
