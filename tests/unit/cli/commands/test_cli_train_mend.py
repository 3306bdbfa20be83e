"""horen bench train-mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, Ok, Run, file_of

from horen.editors.mend import training

FAST = ["--set", "steps=12", "--set", "batch=2", "--set", "rank=4", "--set", "blocks=1"]


@pytest.fixture
def options(tiny: Path) -> list[str]:
    return ["--dataset", "jsonl", "--path", str(file_of(*EDITS)), "--model", str(tiny), "--out", "mend", *FAST]


def test_a_network_is_trained_and_used(options: list[str], run: Run, ok: Ok, tiny: Path):
    said = run("bench", "train-mend", *options)
    assert said.exit_code == 0, said.stderr
    assert "Edit loss" in said.stderr
    assert "--method mend --set network=mend" in said.stderr
    found = ok("bench", "train-mend", *options)  # it is finished
    assert (found["folder"], found["edits"], found["steps"]) == ("mend", 3, 12)
    assert [entry["step"] for entry in found["history"]] == [10, 12]
    used = ["--method", "mend", "--set", "network=mend", "--edits", "2", "--out", "run", "--model", str(tiny)]
    result = ok("bench", "run", "--dataset", "jsonl", "--path", "edits.jsonl", *used)
    assert result


def test_an_interruption_and_its_errors(options: list[str], run: Run, monkeypatch: pytest.MonkeyPatch):
    real = training.Trainer.step

    def interrupted(self: Any) -> Any:
        if self._step == 11:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(training, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(training.Trainer, "step", interrupted)
    result = run("bench", "train-mend", *options)
    assert result.exit_code == 130
    assert "The same command goes on." in result.stderr
    other = run("bench", "train-mend", *options, "--set", "rank=5")
    assert (other.exit_code, "rank=4, not 5" in other.stderr) == (1, True)
    monkeypatch.setattr(training.Trainer, "step", real)
    result = run("bench", "train-mend", *options)
    assert result.exit_code == 0, result.stderr


def test_without_a_network(run: Run, tiny: Path):
    path = file_of(*EDITS)
    given = ["--dataset", "jsonl", "--path", str(path), "--model", str(tiny), "--out", "run", "--method", "mend"]
    result = run("bench", "run", *given, "--edits", "1")
    assert result.exit_code == 1
    assert "horen bench train-mend" in result.stderr
    assert "network=FOLDER" in result.stderr
