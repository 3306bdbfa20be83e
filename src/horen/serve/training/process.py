"""A trainer as a process: ``python -m horen.serve.training.process FOLDER``, which ends when its parent does.

The store's address is in the environment, since it may have a password in it and everybody may see arguments.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from horen.database.snapshot import Snapshot
from horen.database.store import Store
from horen.errors import StoreError

_log = logging.getLogger("horen.trainer")
# How often drafts are looked for that come without a new version, in seconds.
_LOOK = 0.25
_AGAIN = 2.0
#: The variable of the environment that has the store's address.
STORE = "HOREN_STORE"


@dataclass(frozen=True)
class How:
    """How drafts are trained.

    Attributes:
        model: where the model is; None for where it came from.
        dtype: of its weights.
        device: where it is put; None for the CPU.
        four_eyes: see :class:`horen.serve.training.trainer.Trainer`.
    """

    model: str | None = None
    dtype: str = "auto"
    device: str | None = None
    four_eyes: bool = False

    def arguments(self) -> list[str]:
        """Return it as the process is told."""
        told = ["--dtype", self.dtype]
        told += ["--model", self.model] if self.model else []
        told += ["--device", self.device] if self.device else []
        return told + (["--four-eyes"] if self.four_eyes else [])


def main() -> None:
    """Train drafts until standard input ends."""
    parser = argparse.ArgumentParser(prog="horen.serve.training.process")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device")
    parser.add_argument("--four-eyes", action="store_true")
    given = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(10)  # training gives way to answering
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(over,), daemon=True).start()
    with Store.open(os.environ[STORE]) as store:
        how = How(given.model, given.dtype, given.device, given.four_eyes)
        serve(store, Snapshot(store, given.folder), over.is_set, how)


def serve(store: Store, snapshot: Snapshot, over: Callable[[], bool], how: How) -> None:
    """Train drafts until it is over; a store that is away for a while is waited for."""
    # Torch takes seconds to import, and who only wants to know the arguments needs none.
    import transformers  # noqa: PLC0415

    from horen.editor import Editor  # noqa: PLC0415
    from horen.model.zoo.loading import load_model  # noqa: PLC0415
    from horen.serve.training.trainer import Trainer  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    logs: Any = transformers.logging
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    snapshot.follow()
    saved = Saved.read(snapshot.folder)
    if how.model is None:
        editor = Editor.load(saved, dtype=how.dtype, device=how.device)
    else:
        editor = Editor.load(saved, *load_model(how.model, dtype=how.dtype, device=how.device))
    name = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
    trainer = Trainer(store, editor, snapshot, name, four_eyes=how.four_eyes)
    _log.info("ready")
    pause = threading.Event()
    while not over():
        try:
            taken = trainer.step()
        except StoreError as error:
            _log.warning("%s", error)
            pause.wait(_AGAIN)
            continue
        if not taken:
            pause.wait(_LOOK)


def _wait_for_the_end(over: threading.Event) -> None:
    # The parent holds the other end of the pipe, and the system closes it however the parent ends.
    sys.stdin.buffer.read()
    over.set()
    # Training may take long: what was taken is taken up again by another trainer.
    threading.Timer(10.0, os._exit, (0,)).start()


class TrainerProcess:
    """A trainer that runs beside this process, and is started again when it has died.

    Args:
        address: of the store.
        folder: where its snapshot is.
        how: drafts are trained.
    """

    def __init__(self, address: str, folder: Path, how: How) -> None:
        self._address = address
        self._command = [sys.executable, "-m", __name__, str(folder), *how.arguments()]
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="horen-trainer", daemon=True)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def close(self, patience: float = 10.0) -> None:
        """End it, and wait for that so many seconds."""
        self._over.set()
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _keep(self) -> None:
        wait = 1.0
        while not self._over.is_set():
            environment = {**os.environ, STORE: self._address, "OMP_WAIT_POLICY": "PASSIVE"}
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=environment)  # noqa: S603
            code = self._process.wait()
            if not self._over.is_set():
                _log.warning("The trainer ended with %d: it is started again in %.0f s.", code, wait)
                self._over.wait(wait)
                wait = min(60.0, 2 * wait)


if __name__ == "__main__":
    main()
