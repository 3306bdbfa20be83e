"""Training in several processes of this machine, each of which is ``horen edit`` of a share, into a part of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from horen.cli.flow.applying import uninterrupted
from horen.cli.flow.crew import KEPT, Place, shared_out
from horen.cli.terminal import edit_bar, status
from horen.editfiles.records import FileRecord, write_edits
from horen.errors import EditError

if TYPE_CHECKING:
    from pathlib import Path

    from horen.store.state import Saved

_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Processes:
    """Processes that train edits; a :class:`horen.cli.flow.crew.Staff`.

    Attributes:
        count: how many there are, at most.
        devices: where they run, in turn; none for the default.
        options: further ones of ``horen edit`` for each of them.
    """

    count: int
    devices: Sequence[str]
    options: Sequence[str]

    def train(self, edits: Sequence[FileRecord], place: Place, begun: Saved, done: int) -> None:
        """Train edits; see :meth:`horen.cli.flow.crew.Staff.train`."""
        from horen.editing.merge import begin  # noqa: PLC0415

        shares = shared_out(edits, self.count)
        with status("Preparing …"):
            for number in range(1, len(shares) + 1):
                if place.part(number) not in place.parts():
                    begin(begun, place.part(number))
        total = done + len(edits)
        running: list[subprocess.Popen[bytes]] = []
        try:
            with edit_bar(total) as bar:
                for number, share in enumerate(shares, 1):
                    running.append(self._start(place, number, share, len(shares)))
                while self._look(place, running):
                    bar(done + sum(_progress(place, number) for number in range(1, len(shares) + 1)))
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                bar(total)
        finally:
            with uninterrupted(), status("Saving …"):
                _stop(running)

    def _look(self, place: Place, running: Sequence[subprocess.Popen[bytes]]) -> bool:
        """Return whether a process is still at work.

        Raises:
            EditError: when one has failed.
        """
        codes = [process.poll() for process in running]
        for number, code in enumerate(codes, 1):
            if code:
                why = why_ended(code, _log(place, number))
                raise EditError(f"Worker {number} of {len(running)} failed: {why} {KEPT}")
        return None in codes

    def _start(self, place: Place, number: int, share: Sequence[FileRecord], count: int) -> subprocess.Popen[bytes]:
        file, progress = place.path / f"share-{number}.jsonl", _progress_file(place, number)
        write_edits(file, share, overwrite=True)
        progress.unlink(missing_ok=True)
        command = [sys.executable, "-m", "horen.cli.worker", str(progress), "edit", str(file)]
        command += ["--into", str(place.part(number)), "--on-conflict", "supersede"]
        command += ["--on-similar", "ignore", *self.options]
        if self.devices:
            command += ["--device", self.devices[(number - 1) % len(self.devices)]]
        with _log(place, number).open("wb") as log:
            return _start(command, log, count)


def why_ended(code: int, log: Path) -> str:
    """Say what a process ended of, by its exit code and what it has said."""
    if code < 0:
        return f"it was killed by signal {-code}, perhaps for lack of memory: try fewer."
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing."]
    return next((line for line in reversed(lines) if line.startswith("Error: ")), lines[-1]).removeprefix("Error: ")


def _progress(place: Place, number: int) -> int:
    # The file may be read while it is written.
    with suppress(OSError, ValueError):
        return int(_progress_file(place, number).read_text())
    return 0


def _progress_file(place: Place, number: int) -> Path:
    return place.path / f"progress-{number}"


def _log(place: Place, number: int) -> Path:
    return place.path / f"worker-{number}.log"


def _start(command: Sequence[str], log: IO[bytes], count: int) -> subprocess.Popen[bytes]:
    # In a group of its own Ctrl-C of the terminal does not reach it: it is stopped once, by the end of its input.
    apart: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {"creationflags": 0x200}
    threads = {"OMP_NUM_THREADS": str(max(1, _cores() // count))}
    return subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=os.environ | threads, **apart
    )


def _cores() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit():
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let processes that are still at work save and end."""
    for process in running:
        assert process.stdin is not None  # noqa: S101
        with suppress(OSError):
            process.stdin.close()
    for process in running:
        process.wait()
