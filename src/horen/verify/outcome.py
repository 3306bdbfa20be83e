"""What a verification found: one outcome for each check, and a report that may be shown to others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["pass", "fail", "skipped"]

_SIGNS: Mapping[Outcome, str] = {"pass": "PASS", "fail": "FAIL", "skipped": "skipped"}


@dataclass(frozen=True)
class Check:
    """One check and what came of it.

    Attributes:
        name: one word or two, the same in every version.
        title: what holds where it passes.
        outcome: pass, fail or skipped.
        detail: what was counted, why it failed, or why it was left out. Of an error it is the message, which may hold
            a path or a prompt.
        error: of an error its class and where it was raised, which hold neither; else None.
        seconds: that it took.
    """

    name: str
    title: str
    outcome: Outcome
    detail: str
    error: str | None
    seconds: float

    @property
    def sign(self) -> str:
        """The outcome as tables have it."""
        return _SIGNS[self.outcome]


@dataclass(frozen=True)
class Verification:
    """The outcome of all checks.

    Attributes:
        checks: in the order in which they ran.
        facts: versions, machine, model and settings, by name; neither paths nor names of hosts, nor texts.
        seconds: that all took, with loading.
        command: that made it.
    """

    checks: tuple[Check, ...]
    facts: Mapping[str, str]
    seconds: float
    command: str = "horen verify"

    @property
    def passed(self) -> bool:
        """Whether no check failed, and at least one passed."""
        return all(check.outcome != "fail" for check in self.checks) and any(c.outcome == "pass" for c in self.checks)

    def report(self) -> str:
        """Return a text to paste into a bug report, in which an error is told by its class and place alone.

        It holds no path, no name of a host or user, and of prompts none at all.
        """
        lines = [f"{self.command}: " + ("passed" if self.passed else "failed"), ""]
        lines += [f"{name}: {value}" for name, value in self.facts.items()]
        lines.append("")
        lines += [f"{check.sign:<8}{check.name:<12}{check.error or check.detail}" for check in self.checks]
        return "\n".join([*lines, f"{self.seconds:.0f} s in all"]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON takes it."""
        return {
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
            "facts": dict(self.facts),
            "seconds": round(self.seconds, 3),
            "report": self.report(),
        }
