"""The check on an accelerator runs on the CPU too, at tiny sizes; a part that fails or is too slow ends no other."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


def test_every_part_runs_on_a_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    out = tmp_path / "found" / "gpu.json"
    command = [sys.executable, ROOT / "benchmarks" / "gpu_check.py", "--device", "cpu", "--tiny", "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--commit", "abc"], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert {name: part["outcome"] for name, part in told["parts"].items()} == {
        "correctness": "done",
        "editing": "done",
        "kernel": "skipped",
        "look-ups": "done",
        "prefill": "done",
        "engine": "done",
    }
    assert (told["failed"], told["commit"], told["machine"]["device"]) == ([], "abc", "cpu")
    assert "CUDA" in told["parts"]["kernel"]["skipped"]
    models = told["parts"]["correctness"]["found"]["models"]
    assert {(one["model"], one["dtype"]) for one in models} >= {("tiny gpt2", "float32"), ("tiny llama", "bfloat16")}
    assert all(one["right"] == one["made_there"]["right"] == one["routed_alike"] == 1 for one in models)
    editing = told["parts"]["editing"]["found"]
    assert {"typical", "default", "prompt alone", "published"} <= editing.keys()
    assert editing["default"]["times_as_fast"] > 0
    assert editing["typical"]["steps"] <= 11
    assert {one["batch"] for one in told["parts"]["look-ups"]["found"]["look_ups"]} == {1, 16}
    assert len(told["parts"]["prefill"]["found"]["answers"]) == 4
    assert {one["wrong rows"] for one in told["parts"]["engine"]["found"]["written"]} == {0}
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    made = importlib.import_module("speed_page").page(tmp_path)
    assert "| float32, 3 models: prompts routed as on the processor | 1.000 |" in made
    assert "| an edit, 4 in bulk |" in made
    assert "| kernel | skipped | the kernel runs on CUDA alone" in made
    assert "| a look-up of 16 prompts among 20,000 of 64 dimensions |" in made
    assert "| rows that vLLM's workers write elsewhere than they should, in 8 cases | 0 |" in made
    assert "| the first token after 32 tokens: one prompt, 500 edits, each fires one |" in made


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu import report as module  # noqa: PLC0415

    return module


def test_a_part_that_fails_is_recorded_with_what_it_had_found(report: ModuleType, tmp_path: Path):
    out = tmp_path / "gpu.json"
    made = report.Report(out, {"commit": "abc"})

    def bad() -> None:
        made.note("first", 0.123456789)
        raise ValueError("no such thing")

    made.run("one", bad, 10)
    made.run("two", lambda: made.add("rows", {"a": 1}), 10)
    made.finish()
    told = json.loads(out.read_text())
    assert told["failed"] == ["one"]
    assert told["parts"]["one"]["found"] == {"first": 0.123457}
    assert told["parts"]["one"]["error"] == "ValueError('no such thing')"
    assert told["parts"]["two"]["outcome"] == "done"
    assert told["parts"]["two"]["found"] == {"rows": [{"a": 1}]}


def test_a_part_that_takes_too_long_is_stopped(report: ModuleType, tmp_path: Path):
    made = report.Report(tmp_path / "gpu.json", {})
    began = time.perf_counter()
    made.run("slow", lambda: time.sleep(30), 0.05)
    assert time.perf_counter() - began < 10
    assert made.failed == ["slow"]
    assert "longer than" in made.told["parts"]["slow"]["error"]
