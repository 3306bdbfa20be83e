"""Make docs/speed.md of the results: one table a machine, and one of all machines before them.

    python benchmarks/speed_page.py

Every folder in benchmarks/results/speed is a machine, with the files that there are of it: ``editing.json``,
``retrieval.json``, ``approximate*.json``, ``inference.json``, ``start.json``, ``starting.json``, ``saving.json``,
``size.json``, ``compaction.json``, ``million.json``, ``stored.json`` and ``gpu.json``. A machine is named as its
results name it; for those that do not, and for what a reader should know of them, there may be a ``machine.json`` with
``name`` and ``note``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu import rows as gpu_rows
from speed_rows import ROWS, Found, Row, digits, duration, percent

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "speed"
PAGE = ROOT / "docs" / "speed.md"

_NAMES = (
    ("amx_bf16", "AMX"),
    ("avx512_bf16", "AVX-512 bfloat16"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "VNNI"),
)
_WIDTHS = (("avx512f", "AVX-512"), ("avx2", "AVX2"))
_HEAD = """\
# Speed

What edits cost, and what is the least that they could. The numbers are made of
[benchmarks/results/speed](../benchmarks/results/speed) by `python benchmarks/speed_page.py`; each ratio is of two
things timed in one run.

| what you pay | when | the limit |
| --- | --- | --- |
| time of an edit | once for each, least in bulk | the products that its steps need, at the machine's rate of them |
| a look-up | once for each prompt, not for each token | one read of the keys, or of a copy in fewer bytes |
| the first token of an answer | a prompt waits for its look-up | the look-up |
| further tokens | none: no token but the prompt's last is looked up | |
| a start | once for each process, beside loading the model | reading what is stored |
| disk and memory | for each edit: keys, values and texts | their numbers, in the types that they are stored in |

"""
_MEANING = """\
## What is timed

- **An edit**: ZsRE edits of SmolLM2-135M-Instruct, in one call, by the default settings (plain text, chat and after
  a paragraph) and on the prompt alone, as published. The published procedure is that of arXiv 2605.08143 written
  down plainly: one edit at a time, 50 times the whole model forwards and backwards, Adam over the table of values.
  The limit is the least that the steps taken need: the prompt once through the model, then each step's target
  tokens forwards and backwards through the layers after the write site, and the head at the first step and in the
  check, at the rate of products of 1,024 tokens with a layer's matrices in the arithmetic that is used. Files from
  before steps did without the head count it in every step. `benchmarks/edit_speed.py`
- **A look-up**: which edits prompts wake, exactly, among random keys of 512 dimensions, with one Hopfield step, as
  generation asks it. The step is left out where its outcome is certain ([decisions](decisions.md)); beside it
  stands what it takes with the step always taken, and without one. Files from before generation left it out have
  the step always taken. `benchmarks/retrieval.py exact`
- **Answers**: pairs of the untouched model and one with a full codebook; medians and quartiles of the pairs'
  ratios. Where a judge decides, as by default, it is most of what is added, and the smaller the model the more that is.
  Files from before 2026-11-30 have woken entries without words, which the judge passed over. `benchmarks/inference.py`
- **A start**: `Editor.load` beside a loaded model, and commands that start, do one thing and end; a script without
  edits loads the same model and gives the same answer (`benchmarks/starting.py`). **A save** writes what is new alone
  ([bulk](tasks/bulk.md#what-a-save-writes)).
- **An accelerator**: `make gpu-check` runs all that only one can show, with a model of Llama-3-8B's shape whose
  random weights are made there. Random weights need not let values converge: a row says in how many steps how many
  did, and beside it stand edits of at most 11 steps, as many as a trained model's take on average.

`make bench DATA=zsre.json MACHINE=name` measures a machine into a folder of that name and makes this page anew.
"""


def page(results: Path = RESULTS) -> str:
    """Return the whole page."""
    machines = [Machine(folder) for folder in sorted(results.iterdir()) if folder.is_dir()]
    machines = [machine for machine in machines if machine.files]
    parts = [_HEAD, "## At a glance\n\n", _glance(machines), "\n", _MEANING]
    parts += [machine.section() for machine in machines]
    return "".join(parts)


class Machine:
    """The results of one machine.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
        self._told: Found = found.pop("machine", {})
        self.files: dict[str, Found] = found

    @property
    def name(self) -> str:
        """What the results call it, or else what ``machine.json`` does, or the folder."""
        machines = [one["machine"] for one in self.files.values()]
        gpus = [one["gpu"] for one in machines if one.get("gpu")]
        named = [one for one in machines if one.get("cpu") or one.get("features")]
        if gpus:
            return str(gpus[0])
        return processor(named[0]) if named else str(self._told.get("name", self.folder.name))

    def section(self) -> str:
        """Return its part of the page."""
        lines = [f"\n## {self.name}\n", self._circumstances(), ""]
        lines += ["| what | takes | against |", "| --- | ---: | --- |"]
        lines += [f"| {what} | {takes} | {against} |" for what, takes, against in self._rows()]
        return "\n".join(lines) + "\n"

    def glance(self) -> dict[str, str]:
        """Return the first table's row, by column."""
        files, told = self.files, {}
        if "gpu" in files:
            return gpu_rows.glance(files["gpu"])
        if "editing" in files and "default" in files["editing"]["ours"]:
            one = files["editing"]["ours"]["default"]
            told |= {"edit": duration(one["seconds"]), "ratio": digits(one["ratio"])}
        for one in files.get("retrieval", {}).get("results", []):
            if (one["keys"], one["batch"], one["steps"]) == (50_000, 1, 1):
                told["look-up"] = duration(one.get("waking_ms", one["retrieval_ms"]) / 1e3)
        for one in files.get("inference", {}).get("results", []):
            if one["batch"] == 1:
                told["woken" if one["woken"] else "unwoken"] = percent(one["first_token"]["added"])
        return told | _stored(files)

    def _rows(self) -> Iterator[Row]:
        for kind, make in ROWS.items():
            for stem, found in self.files.items():
                if stem == kind or stem.startswith(f"{kind}_"):
                    yield from make(found)
        if "gpu" in self.files:
            yield from gpu_rows.rows(self.files["gpu"])

    def _circumstances(self) -> str:
        """Return in sentences what ran: threads, packages, code and what the machine can do at most."""
        ones = self.files.values()
        threads = sorted({one["machine"]["threads"] for one in ones})
        torches = sorted({str(one["versions"]["torch"]) for one in ones})
        codes: dict[str, list[str]] = {}
        for stem, one in self.files.items():
            codes.setdefault(one["code"][:8], []).append(stem)
        made = "; ".join(f"code {code}: {', '.join(sorted(stems))}" for code, stems in sorted(codes.items()))
        many = "thread" if threads == [1] else "threads"
        told = [
            (
                f"{' or '.join(map(str, threads))} {many}, torch {', '.join(torches)}; {made} "
                f"([files](../benchmarks/results/speed/{self.folder.name}))."
            )
        ]
        if "editing" in self.files:
            rates = self.files["editing"]["products"]
            pairs = " and ".join(f"{digits(rate / 1e9)} in {name}" for name, rate in rates.items())
            told.append(f"Products of 1,024 tokens with a layer's matrices: {pairs}, in GFLOP/s.")
        if self._told.get("note"):
            told.append(self._told["note"])
        return "\n".join(told)


def _stored(files: dict[str, Found]) -> dict[str, str]:
    """Return what a start takes, and an edit on disk."""
    told = {}
    found: dict[str, Any] = files.get("start", {}).get("results", {})
    if "load_s" in found:
        told = {"start": duration(found["load_s"]), "disk": digits(found["bytes_an_edit"])}
    loaded = files.get("starting", {}).get("results", {}).get("this: Editor.load beside a loaded model")
    if loaded is not None:
        told["start"] = duration(loaded["seconds"])
    if "size" in files:
        told["disk"] = digits(files["size"]["now"]["on disk"]["all"])
        told["memory"] = digits(files["size"]["now"]["in memory"]["all"])
    return told


def processor(machine: dict[str, Any]) -> str:
    """Return a processor's name, cores and what it has for products, in words."""
    name = re.sub(r"\((?:R|TM)\)", "", str(machine.get("cpu") or machine["processor"]))
    has = machine.get("features", [])
    special = [word for flag, word in _NAMES if flag in has]
    if "AVX-512 VNNI" in special and "VNNI" in special:
        special.remove("VNNI")
    wide = next((word for flag, word in _WIDTHS if flag in has), None)
    if wide and not any(word.startswith(wide) for word in special):
        special.append(wide)
    return f"{' '.join(name.split())}, {machine['cpus']} cores" + (f": {', '.join(special)}" if special else "")


def _glance(machines: list[Machine]) -> str:
    columns = {
        "edit": "an edit",
        "ratio": "times as fast as published",
        "look-up": "a look-up among 50,000",
        "unwoken": "added to the first token, none fires",
        "woken": "an edit fires",
        "start": "a start",
        "disk": "bytes an edit on disk",
        "memory": "in memory",
    }
    told = [(machine.name + _of(machine), machine.glance()) for machine in machines]
    used = [column for column in columns if any(column in row for _, row in told)]
    lines = ["| machine | " + " | ".join(columns[one] for one in used) + " |"]
    lines.append("| --- |" + " ---: |" * len(used))
    lines += [f"| {name} | " + " | ".join(row.get(one, "") for one in used) + " |" for name, row in told if row]
    return "\n".join(lines) + "\n"


def _of(machine: Machine) -> str:
    """Return what is edited there, where it is another model than elsewhere."""
    return ", a model of Llama-3-8B's shape" if "gpu" in machine.files else ""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
