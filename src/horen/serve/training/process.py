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
from pathlib import Path

from horen.database.snapshot import Snapshot
from horen.database.store import Store
from horen.errors import StoreError

_log = logging.getLogger("horen.trainer")
# How often drafts are looked for that come without a new version, in seconds.
_LOOK = 0.25
_AGAIN = 2.0
#: The variable of the environment that has the store's address.
STORE = "HOREN_STORE"


def main() -> None:
    """Train drafts until standard input ends."""
    parser = argparse.ArgumentParser(prog="horen.serve.training.process")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(over,), daemon=True).start()
    with Store.open(os.environ[STORE]) as store:
        serve(store, Snapshot(store, given.folder), over.is_set, given.model, given.dtype, given.device)


def serve(
    store: Store,
    snapshot: Snapshot,
    over: Callable[[], bool],
    model: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
) -> None:
    """Train drafts until it is over; a store that is away for a while is waited for."""
    # Torch takes seconds to import, and who only wants to know the arguments needs none.
    from horen.editor import Editor  # noqa: PLC0415
    from horen.model.zoo.loading import load_model  # noqa: PLC0415
    from horen.serve.training.trainer import Trainer  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    snapshot.follow()
    saved = Saved.read(snapshot.folder)
    if model is None:
        editor = Editor.load(saved, dtype=dtype, device=device)
    else:
        editor = Editor.load(saved, *load_model(model, dtype=dtype, device=device))
    name = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
    trainer = Trainer(store, editor, snapshot, name)
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
        model: where the model is; None for where it came from.
        dtype: of its weights.
        device: where it is put.
    """

    def __init__(
        self, address: str, folder: Path, model: str | None = None, dtype: str = "auto", device: str | None = None
    ) -> None:
        self._address = address
        self._command = [sys.executable, "-m", __name__, str(folder), "--dtype", dtype]
        self._command += ["--model", model] if model else []
        self._command += ["--device", device] if device else []
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
            # Training gives way to answering.
            environment = {**os.environ, STORE: self._address, "OMP_WAIT_POLICY": "PASSIVE"}
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=environment)  # noqa: S603
            code = self._process.wait()
            if not self._over.is_set():
                _log.warning("The trainer ended with %d: it is started again in %.0f s.", code, wait)
                self._over.wait(wait)
                wait = min(60.0, 2 * wait)


if __name__ == "__main__":
    main()
