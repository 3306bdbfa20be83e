"""Making checks one after another, and keeping what came of each: an error in one is its failure, and others go on."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from horen.verify.asking import FailedError, SkippedError
from horen.verify.demo import Progress
from horen.verify.outcome import Check, Outcome


@dataclass
class Notes:
    """The checks that were made so far.

    Attributes:
        titles: what holds where a check passes, by the name of each that will be made.
        tell: called with (phase, done, total).
        checks: in the order in which they were made.
    """

    titles: Mapping[str, str]
    tell: Progress
    checks: list[Check] = field(default_factory=list)

    def note(self, name: str, check: Callable[[], str]) -> None:
        """Make a check, and keep what came of it."""
        self.tell("Checking", len(self.checks), len(self.titles))
        started = time.perf_counter()
        outcome: Outcome = "pass"
        error = None
        try:
            detail = check()
        except SkippedError as reason:
            outcome, detail = "skipped", str(reason)
        except FailedError as reason:
            outcome, detail = "fail", str(reason)
        except Exception as raised:
            outcome, detail = "fail", f"{type(raised).__name__}: {' '.join(str(raised).split())}"
            error = f"{type(raised).__name__} {_raised_at(raised)}"
        seconds = time.perf_counter() - started
        self.checks.append(Check(name, self.titles[name], outcome, detail, error, round(seconds, 3)))
        self.tell("Checking", len(self.checks), len(self.titles))


def _raised_at(error: BaseException) -> str:
    """Return the last place in this package at which an error went by, and where it began, without a path."""
    frames = [
        f"{frame.f_globals.get('__name__', 'unknown')}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    own = [frame for frame in frames if frame.startswith("horen.")]
    last = frames[-1] if not own or own[-1] == frames[-1] else f"{own[-1]}, from {frames[-1]}"
    return f"at {last}"
