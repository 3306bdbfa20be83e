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
from typing import NamedTuple

import httpx2
import psutil

#: What the measured services serve.
MODEL = "smollm2-135m-instruct"


class Running(NamedTuple):
    """A service that runs.

    Attributes:
        url: its address.
        process: its number.
    """

    url: str
    process: int

    def seconds(self) -> float:
        """Return the processor time that it has taken so far."""
        taken = psutil.Process(self.process).cpu_times()
        return float(taken.user + taken.system)


@contextmanager
def served(store: Path, *options: str) -> Iterator[Running]:
    """Run a service within the block."""
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
        yield Running(url, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def listed(store: Path, count: int) -> dict[str, int]:
    """Return the prompts of the first edits of a store, by which edit each is answered."""
    from horen.database import Query, Store  # noqa: PLC0415

    with Store.open(store) as opened:
        items = opened.edits.list(Query(state="published"), before=count + 1, limit=count).items
    return {one.prompt: one.id for one in items}
