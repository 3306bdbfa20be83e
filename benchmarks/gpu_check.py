"""What only an accelerator can show, in one run that is stopped before eight minutes are over.

    PYTHONPATH=src python benchmarks/gpu_check.py --out gpu.json
    PYTHONPATH=src python benchmarks/gpu_check.py --device cpu --tiny --out gpu.json

Six parts: edited models route and answer as on the processor; edits of a model of Llama-3-8B's shape against the
published procedure and the rate of products; the kernel for CUDA against torch; look-ups against the memory's speed;
what 50,000 edits add to answers of that model; and what a worker of vLLM writes, in captured graphs. The model's
weights are random and made on the device; nothing is fetched.
Each part has a time of its own and writes what it finds into the file at once; where one fails the others go on, and
the exit status is 1. The second command does all of it at tiny sizes, whose times say nothing.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu import correctness, editing, engine, kernel, lookups, prefill
from gpu.models import FAMILIES, LARGE, SMALL, large_model, word_tokenizer
from gpu.report import Report
from horen.bench.plan import environment
from horen.store.calibration import Calibration

_PARTS = ("correctness", "editing", "kernel", "look-ups", "prefill", "engine")
_BUDGETS = {"correctness": 80.0, "editing": 140.0, "kernel": 75.0, "look-ups": 70.0, "prefill": 70.0, "engine": 20.0}
# Beyond the parts' own budgets: then nothing moves any more, and what was found is in the file.
_GRACE = 30


@dataclass(frozen=True)
class Sizes:
    """How large everything is that is measured."""

    model: dict[str, Any]
    families: tuple[str, ...]
    facts: int
    edits: int
    yardstick: int
    square: int
    keys: tuple[int, ...]
    dimensions: tuple[int, ...]
    seconds: float
    copied: int
    stored: int
    pairs: int


_FULL = Sizes(LARGE, FAMILIES, 24, 256, 2, 8192, (50_000, 1_000_000), (512, 4096), 0.5, 4 << 30, 50_000, 7)
_TINY = Sizes(SMALL, ("llama", "gpt2"), 3, 4, 1, 128, (2_000, 20_000), (32, 64), 0.01, 1 << 20, 500, 2)
_BATCHES, _TOKENS, _NEW = [1, 16], 32, 9


class Large:
    """A model of Llama-3-8B's shape, made when a part first asks for it."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self._sizes, self._device = sizes, device

    @functools.cached_property
    def parts(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        return large_model(self._sizes.model, self._device), word_tokenizer(self._sizes.model["vocab_size"])

    @functools.cached_property
    def calibration(self) -> Calibration:
        """How the model reads."""
        return editing.calibrated(*self.parts)

    def edited(self, report: Report) -> None:
        """Measure edits."""
        given = self._sizes
        sizes = {"count": given.edits, "yardstick": given.yardstick, "size": given.square}
        editing.measure(report, *self.parts, lambda: self.calibration, **sizes)

    def answered(self, report: Report) -> None:
        """Measure answers."""
        given = self._sizes
        sizes: dict[str, Any] = {"edits": given.stored, "tokens": _TOKENS, "batches": _BATCHES}
        with editing.opened(*self.parts, editing.BASE, self.calibration) as editor:
            prefill.measure(report, editor, **sizes, pairs=given.pairs, new=_NEW)


def parts(given: argparse.Namespace, report: Report) -> dict[str, Callable[[], None]]:
    """Return what each part does, by its name."""
    device, sizes = torch.device(given.device), _TINY if given.tiny else _FULL
    large = Large(sizes, device)
    tables: dict[str, Any] = {
        "keys": list(sizes.keys),
        "dimensions": list(sizes.dimensions),
        "batches": _BATCHES,
        "seconds": sizes.seconds,
    }
    return {
        "correctness": lambda: correctness.check(
            report, device, families=sizes.families, model=given.model, count=sizes.facts
        ),
        "editing": lambda: large.edited(report),
        "kernel": lambda: kernel.check(report, device, **tables),
        "look-ups": lambda: lookups.measure(report, device, **tables, copied=sizes.copied, bandwidth=given.bandwidth),
        "prefill": lambda: large.answered(report),
        "engine": lambda: engine.check(report, device, sizes=list(sizes.dimensions), seconds=sizes.seconds),
    }


def circumstances(given: argparse.Namespace) -> dict[str, Any]:
    """Return what runs where: packages, machine, driver and commit."""
    told = {name: value for name, value in vars(given).items() if name not in {"out", "model"}}
    told["model"] = given.model and Path(given.model).name
    found = {
        "arguments": told,
        **environment(given.device),
        "commit": given.commit or _asked("git", "rev-parse", "HEAD"),
    }
    found["driver"] = _asked("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    found["cuda"] = torch.version.cuda
    return found


def _asked(*command: str) -> str | None:
    """Return what a program says; None where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="at tiny sizes, to see that everything runs")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--model", help="folder or name of a real model, for the first part too")
    parser.add_argument("--bandwidth", type=float, default=4.3e12, help="bytes a second that shares are told of too")
    parser.add_argument("--commit", help="what is measured, where there is no git to say so")
    given = parser.parse_args()
    logging.getLogger("horen").setLevel(logging.ERROR)  # random weights: that edits did not converge is in the results
    given.out.parent.mkdir(parents=True, exist_ok=True)
    report = Report(given.out, circumstances(given))
    faulthandler.dump_traceback_later(sum(_BUDGETS[name] for name in given.parts) + _GRACE, exit=True)
    work = parts(given, report)
    for name in given.parts:
        report.run(name, work[name], _BUDGETS[name])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    faulthandler.cancel_dump_traceback_later()
    report.finish()
    sys.stdout.flush()
    # Threads of a part that was stopped must not keep the machine.
    os._exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
