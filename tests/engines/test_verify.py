"""`horen verify --vllm` with a real engine, as users run it; tests/unit has what it notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from horen import Edit, Editor
from horen.model.zoo.embedded import fetch

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
]
MARK = "HOREN_TEST_MARK"


@pytest.fixture(scope="module")
def codebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edits") / "codebook"
    editor = Editor.from_pretrained(str(fetch("smollm2-135m-instruct")))
    editor.edit([Edit(*fact) for fact in FACTS])
    editor.save(folder)
    return folder


def begin(codebook: Path, mark: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"} | environment | {MARK: mark}
    command = [sys.executable, "-m", "horen.cli", "verify", str(codebook), "--vllm", "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def marked(mark: str) -> list[int]:
    """Return the processes that were started with a mark, by whomever."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def test_every_check_passes_and_no_process_is_left(codebook: Path):
    before = {path.name: path.read_bytes() for path in codebook.iterdir()}
    running = begin(codebook, "whole")
    out, err = running.communicate(timeout=840)
    assert running.returncode == 0, (out, err)
    document: dict[str, Any] = json.loads(out)
    assert {check["name"]: check["outcome"] for check in document["checks"]} == dict.fromkeys(
        ["starts", "fires", "answers", "chat", "off", "batch", "change", "prefix", "cost", "stock"], "pass"
    )
    assert document["facts"]["vllm"]
    assert {path.name: path.read_bytes() for path in codebook.iterdir()} == before
    assert marked("whole") == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_ctrl_c_ends_the_engine_too(codebook: Path):
    running = begin(codebook, "interrupted")
    until = time.monotonic() + 300
    while len(marked("interrupted")) < 3:  # the command, the engine's process and one that this has started
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert marked("interrupted") == []
