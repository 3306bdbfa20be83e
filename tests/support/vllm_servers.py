"""vLLM's own server, in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

_START = 400


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(model: str, codebook: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, with a codebook's edits, to the name "small"."""
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ, "HOREN_CODEBOOK": str(codebook)}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    options = ["--model", model, "--served-model-name", "small", "--enforce-eager", "--dtype", "float32"]
    options += ["--max-model-len", "512", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as out:
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options]
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield server
    finally:
        server.terminate()
        server.wait(60)
        kill(server)


def kill(server: subprocess.Popen[bytes]) -> None:
    """End a server and the processes of its engine at once; those outlive one that could not end them."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])
