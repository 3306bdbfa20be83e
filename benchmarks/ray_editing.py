"""Editing a file by workers of Ray and by one process: what both make of it, how long they take, what a loss costs.

    python benchmarks/ray_editing.py --data zsre.json --out benchmarks/results/ray/editing.json

Each run is the program itself, with the same batches: alone, by workers of Ray that is begun for it on this machine
(--ray local), and so once more with one of them killed when the first batches are done. Values and keys are stored in
float32, and values are optimised in the arithmetic of the model, so that what is compared is not rounded first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.editfiles.records import FileRecord, write_edits
from horen.store import read_folder

_FIELDS = ("id", "prompt", "target", "rephrases", "entries", "value", "steps", "converged", "reused")
_SETTINGS = ("precision=model", "key_storage=float32", "value_storage=float32")
_WORKER = b"ray::Trainer.train"
_NOTE = (
    "Seconds are those that the program tells, of a machine that does other work meanwhile, so their ratio is no more "
    "than indicative; they are from reading the file to the last save, with the start of Ray, the loading of the model "
    "by each worker, and the final pass that writes the codebook in the file's order. All workers are on one machine."
)


def edits(data: Path, count: int) -> list[FileRecord]:
    """Return the first edits of a file with MEND's fields that have a target, whose prompts are all different."""
    found: dict[str, FileRecord] = {}
    for record in json.loads(data.read_text(encoding="utf-8")):
        prompt, target = record["src"].strip(), record["alt"].strip()
        if target:
            found.setdefault(prompt, FileRecord(len(found) + 1, prompt, target))
        if len(found) == count:
            break
    return list(found.values())


def run(options: Sequence[str], meanwhile: Callable[[int], None] | None = None) -> tuple[dict[str, Any], str]:
    """Run ``horen edit``; return its document and what it said beside."""
    command = [sys.executable, "-m", "horen.cli", "edit", *options, "--json"]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=out, stderr=said)  # noqa: S603
        while process.poll() is None:
            if meanwhile is not None:
                meanwhile(process.pid)
            time.sleep(0.2)
        out.seek(0)
        said.seek(0)
        told = said.read()
        if process.returncode:
            raise RuntimeError(told)
        return json.loads(out.read()), told


def descendants(process: int) -> list[int]:
    """Return the processes below a process, by what Linux tells."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found[1:]


class Killer:
    """Kills one worker that trains, once a part has something in it.

    Args:
        place: the folder of the parts.
    """

    def __init__(self, place: Path) -> None:
        self._place, self.killed = place, 0

    def __call__(self, process: int) -> None:
        """Look whether it is time, and do it."""
        parts = [*self._place.glob("part-*/edits.jsonl")]
        if self.killed or not any(part.stat().st_size for part in parts):
            return
        for worker in descendants(process):
            try:
                trains = Path(f"/proc/{worker}/cmdline").read_bytes().startswith(_WORKER)
            except OSError:
                continue
            if trains:
                os.kill(worker, signal.SIGKILL)
                self.killed = worker
                return


def compared(one: Path, two: Path) -> dict[str, Any]:
    """Return whether two codebooks have the same records, and how far their numbers are apart."""
    first, second = read_folder(one), read_folder(two)
    losses = [[line["edit"]["loss"] for line in folder.records] for folder in (first, second)]
    same = [
        [[line["sequence"], line["operation"], *(line["edit"][name] for name in _FIELDS)] for line in folder.records]
        for folder in (first, second)
    ]
    found: dict[str, Any] = {"same ids, records and operations": same[0] == same[1]}
    for name in ("keys", "values"):
        found[f"largest difference of {name}"] = float((first.tensors[name] - second.tensors[name]).abs().max())
        found[f"largest of {name}"] = float(second.tensors[name].abs().max())
    found["largest difference of losses"] = max(abs(a - b) for a, b in zip(*losses, strict=True))
    return found


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="ZsRE with MEND's fields")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--edits", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = [word for setting in _SETTINGS for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "edits.jsonl"
        write_edits(file, edits(given.data, given.edits))
        common = [str(file), "--model", given.model, "--batch", str(given.batch), *settings]
        crew = ["--ray", "local", "--workers", str(given.workers)]
        alone, ray, lost = (Path(work) / name for name in ("alone", "ray", "lost"))
        first, _ = run([*common, "--into", str(alone)])
        second, _ = run([*common, "--into", str(ray), *crew])
        killer = Killer(Path(work) / f".lost.{file.name}.workers")
        third, said = run([*common, "--into", str(lost), *crew], killer)
        told = re.search(r"Ray lost (\d+) workers?; (\d+) edits? went", said)
        found = {
            "model": given.model,
            "edits": first["stored"],
            "batch": given.batch,
            "workers": given.workers,
            "threads of each process": os.environ.get("OMP_NUM_THREADS", "as torch chooses; as Ray gives its workers"),
            "not converged": first["counts"]["not_converged"],
            "seconds": {"one process": first["seconds"], "Ray": second["seconds"]},
            "speed ratio": first["seconds"] / second["seconds"],
            "Ray against one process": compared(ray, alone),
            "with a worker killed": {
                "seconds": third["seconds"],
                "killed": bool(killer.killed),
                "workers lost": int(told[1]) if told else 0,
                "edits trained again": int(told[2]) if told else 0,
                "against one process": compared(lost, alone),
            },
            "note": _NOTE,
            "environment": environment(),
        }
    write_text(given.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
