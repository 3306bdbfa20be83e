"""Machines that are faster in one arithmetic than in the others, whatever this one is."""

from __future__ import annotations

import pytest

from horen.model.partial import rates

# Seconds of the same product.
MACHINES = {
    "model": {"float32": 1.0, "float16": 1.0, "bfloat16": 2.0, "int8": 0.7},
    "bfloat16": {"float32": 1.0, "float16": 1.0, "bfloat16": 0.5, "int8": 0.4},
    "int8": {"float32": 1.0, "float16": 1.0, "bfloat16": 2.0, "int8": 0.2},
}


def fastest_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine be the fastest in an arithmetic."""
    monkeypatch.setattr(rates, "seconds", lambda: MACHINES[name])
