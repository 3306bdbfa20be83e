"""What an edit takes: bytes on disk by file and table, and in memory by part, of a codebook of many.

    python benchmarks/size.py --edits 20000 --out size.json \
        --set key_storage=float32 --set value_storage=float32

Keys and values are random and of the size that the preset ``default`` gives them for the model; prompts have about as
many letters as questions have. The settings of each --set are those of "before", the defaults those of "now". Each
codebook is saved by one process and loaded by another, which asks it one prompt, so that what is made at the first
look-up is counted too. Tables are counted as they are; Python's objects, history and texts, by tracemalloc; and the
growth of resident memory, less that of a codebook with one edit, says whether anything was missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import torch

from filling import fill
from horen import Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.cli.commands.edit import parse_settings
from horen.model.zoo.loading import load_model
from horen.store import read_folder
from horen.store.history import History
from horen.store.state import Saved

_MODEL = "smollm2-135m-instruct"


def save(folder: Path, edits: int, settings: dict[str, Any]) -> None:
    """Write a folder of so many edits."""
    model, tokenizer = load_model(_MODEL)
    editor = Editor(model, tokenizer, HorenConfig(**settings))
    fill(editor._session, edits)
    editor.save(folder)


def on_disk(folder: Path) -> dict[str, int]:
    """Return the bytes of each file, and of each table."""
    files = {entry.name: entry.stat().st_size for entry in folder.iterdir()}
    return files | {name: tensor.nbytes for name, tensor in read_folder(folder).tensors.items()}


def in_memory(folder: Path) -> dict[str, int]:
    """Return the bytes of each part of a loaded codebook after its first look-up."""
    model, tokenizer = load_model(_MODEL)
    before = _resident()
    editor = Editor.load(folder, model, tokenizer)
    editor.explain("Who is the head gardener of the 17th house in Mallow Street?")
    gc.collect()
    grown = {name: size - before[name] for name, size in _resident().items()}
    book = editor._session.codebook()
    stand = book._stand
    tables = {
        "keys": stand.keys.nbytes,
        "values": book.packed.nbytes,
        "value_of": book.value_of.nbytes,
        "awake": book._awake.rows.nbytes,
        "int8 copy of the keys": getattr(getattr(stand.copies, "_sketch", None), "nbytes", 0),
    }
    return tables | {"history": _of_objects(folder)} | grown


def _of_objects(folder: Path) -> int:
    """Return the bytes of Python's objects that a history is made of."""
    lines = Saved.read(folder).folder.records
    text = json.dumps(lines)
    del lines
    gc.collect()
    tracemalloc.start()
    lines = json.loads(text)
    history = History.from_lines(lines)
    del lines
    gc.collect()
    found = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(history)
    return found


def _resident() -> dict[str, int]:
    """Return what of this process lies in memory: its own pages, and those of files."""
    kinds = {"RssAnon:": "resident, own", "RssFile:": "resident, of files"}
    rows = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {kinds[row[0]]: 1024 * int(row[1]) for row in rows if row and row[0] in kinds}


def _apart(work: Any, *given: Any) -> Any:
    """Return what is found in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def measured(edits: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return bytes an edit of one set of settings."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for count in (1, edits):
            folder = Path(place) / str(count)
            _apart(save, folder, count, settings)
            found[count] = {"on disk": on_disk(folder), "in memory": _apart(in_memory, folder)}
    told: dict[str, Any] = {"settings": settings}
    for where in ("on disk", "in memory"):
        few, many = found[1][where], found[edits][where]
        told[where] = {name: round((size - few.get(name, 0)) / (edits - 1), 1) for name, size in many.items()}
    told["on disk"]["all"] = round(
        sum(told["on disk"].get(name, 0) for name in ("edits.jsonl", "codebook.safetensors")), 1
    )
    own = ("keys", "values", "value_of", "awake", "int8 copy of the keys")
    told["in memory"]["tables"] = round(sum(told["in memory"][name] for name in own), 1)
    told["in memory"]["all"] = round(told["in memory"]["tables"] + told["in memory"]["history"], 1)
    return told


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    told: dict[str, Any] = {"now": measured(given.edits, {})}
    if given.set:
        told["before"] = measured(given.edits, parse_settings(given.set))
        told["ratio"] = {
            where: round(told["now"][where]["all"] / told["before"][where]["all"], 3)
            for where in ("on disk", "in memory")
        }
    write_text(given.out, json.dumps({**environment(), "edits": given.edits, **told}, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
