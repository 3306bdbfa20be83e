"""What a check has found so far: written after every finding, so that a run that ends early leaves what it knew."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from horen.bench.files import write_text

_PLACES = 6


class OverBudgetError(Exception):
    """A part has taken longer than it may."""


class Report:
    """Findings by part, in a JSON file.

    Args:
        out: the file.
        head: what stands before the parts.
    """

    def __init__(self, out: Path, head: dict[str, Any]) -> None:
        self._out, self._began = out, time.perf_counter()
        self.told: dict[str, Any] = {**head, "parts": {}}
        self._part = ""
        self._write()

    def say(self, text: str) -> None:
        """Print a line with the seconds since the beginning and the time of day."""
        print(f"{time.strftime('%H:%M:%S')} +{time.perf_counter() - self._began:6.1f} s  {text}", flush=True)

    def note(self, name: str, found: Any) -> None:
        """Keep a finding of the part that is running."""
        self.told["parts"][self._part]["found"][name] = found
        self._tell(name, found)

    def add(self, name: str, found: Any) -> None:
        """Keep one more finding of a list of them."""
        self.told["parts"][self._part]["found"].setdefault(name, []).append(found)
        self._tell(name, found)

    def _tell(self, name: str, found: Any) -> None:
        self._write()
        self.say(f"{self._part}: {name} {_short(found)}")

    def skip(self, reason: str) -> None:
        """Say why the part that is running has nothing to do here."""
        self.told["parts"][self._part]["skipped"] = reason
        self._write()
        self.say(f"{self._part}: skipped, {reason}")

    def run(self, name: str, work: Callable[[], None], budget: float) -> None:
        """Do a part within so many seconds; what it raises is kept, and ends nothing else."""
        self._part = name
        told: dict[str, Any] = {"budget_s": budget, "found": {}}
        self.told["parts"][name] = told
        self.say(f"{name}: begins, {budget:.0f} s at most")
        began = time.perf_counter()
        try:
            with limited(budget):
                work()
            told["outcome"] = "skipped" if "skipped" in told else "done"
        # Whatever it was, the other parts can still be measured.
        except Exception as error:
            told |= {"outcome": "failed", "error": repr(error), "trace": traceback.format_exc()}
        told["seconds"] = time.perf_counter() - began
        self._write()
        self.say(f"{name}: {told['outcome']} after {told['seconds']:.1f} s {told.get('error', '')}")

    @property
    def failed(self) -> list[str]:
        """Names of the parts that failed."""
        return [name for name, part in self.told["parts"].items() if part.get("outcome") == "failed"]

    def finish(self) -> None:
        """Write how long all of it took."""
        self.told["seconds"] = time.perf_counter() - self._began
        self.told["failed"] = self.failed
        self._write()
        self.say(f"all parts after {self.told['seconds']:.1f} s; failed: {', '.join(self.failed) or 'none'}")

    def _write(self) -> None:
        write_text(self._out, json.dumps(_rounded(self.told), indent=1) + "\n")


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OverBudgetError within the block once it has taken so many seconds."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise OverBudgetError(f"The part took longer than {seconds:.0f} s.")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _rounded(found: Any) -> Any:
    """Return the same with six significant digits, as more are noise."""
    if isinstance(found, dict):
        return {name: _rounded(item) for name, item in found.items()}
    if isinstance(found, list | tuple):
        return [_rounded(item) for item in found]
    return float(f"{found:.{_PLACES}g}") if isinstance(found, float) else found


def _short(found: Any) -> str:
    text = str(_rounded(found))
    return text if len(text) <= 400 else text[:397] + "…"
