"""A service to measure, run as its command runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

#: What the measured services serve.
MODEL = "smollm2-135m-instruct"


@contextmanager
def served(store: Path, *options: str) -> Iterator[str]:
    """Run a service within the block, and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("horen")
    command = [program, "serve", store, "--port", str(port), "--option", "rate=1000000", *options]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(list(map(str, command)), env=environment)  # noqa: S603
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 600
        while True:
            try:
                if httpx2.get(f"{url}/readyz", timeout=5).status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the service did not start")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)
