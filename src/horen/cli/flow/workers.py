"""Training a file's edits in several processes, each of which writes a codebook of its own beside the one to be made.

Those are no more than a store of keys and values: what becomes of them is decided when the file is written into the
codebook with what they hold, in the order of the file. So a second run may share out what is left in another way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from horen.cli.flow.applying import uninterrupted
from horen.cli.terminal import edit_bar, status
from horen.editfiles.records import EditLike, FileRecord, write_edits
from horen.editfiles.spool import chosen
from horen.errors import EditError, MismatchError

if TYPE_CHECKING:
    from horen.editor import Editor
    from horen.store.state import Saved

_SECONDS_BETWEEN_LOOKS = 0.2
_PART = "part-"


@dataclass(frozen=True)
class Crew:
    """Processes that train edits.

    Attributes:
        place: the folder that holds what they have done.
        count: how many there are, at most.
        devices: where they run, in turn; none for the default.
        options: further ones of ``horen edit`` for each of them.
    """

    place: Path
    count: int
    devices: Sequence[str]
    options: Sequence[str]

    def parts(self) -> list[Path]:
        """Return codebooks that they have begun."""
        return sorted(path for path in self.place.glob(f"{_PART}*") if path.is_dir())

    def trained(self, edits: Sequence[FileRecord]) -> list[bool]:
        """Return for each edit whether it is in one of those.

        Raises:
            StoreError: when one cannot be read.
        """
        from horen.store.state import Saved  # noqa: PLC0415

        found: set[tuple[str, ...]] = set()
        for part in self.parts():
            for operation in Saved.read(part).history.operations:
                found.update(_words(record) for record in operation.added)
        return [_words(edit) in found for edit in edits]

    def train(self, edits: Sequence[FileRecord], editor: Editor, saved: Saved | None) -> None:
        """Train what no part holds yet, and let the editor take everything from the parts.

        Args:
            edits: all that are to be written.
            editor: of the codebook that they are to be written into.
            saved: what is in its folder; None for nothing.

        Raises:
            EditError: when a process fails.
            KeyboardInterrupt: after Ctrl-C; the parts hold what was done.
        """
        try:
            editor.take_values(*self.parts(), keys=True)
        except MismatchError as error:
            raise MismatchError(
                f"{error} {self.place} is what an interrupted run with --workers has left: give the command that began "
                "it, or delete that folder to train anew."
            ) from error
        rest = chosen(edits, (number for number, done in enumerate(self.trained(edits)) if not done))
        if not rest:
            return
        shares = _shared_out(rest, self.count)
        try:
            with status("Preparing …"):
                self._begin(len(shares), editor, saved)
            self._run(shares, len(edits) - len(rest), len(edits))
        except BaseException:
            if not any(self.trained(edits)):
                self.clear()
            raise
        editor.take_values(*self.parts(), keys=True)

    def clear(self) -> None:
        """Delete what they have done."""
        with uninterrupted(), suppress(FileNotFoundError):
            shutil.rmtree(self.place)

    def _begin(self, count: int, editor: Editor, saved: Saved | None) -> None:
        """Make the parts that are missing, all of them in the editor's key space."""
        from horen.editing.merge import begin  # noqa: PLC0415
        from horen.store.state import Saved  # noqa: PLC0415

        self.place.mkdir(parents=True, exist_ok=True)
        if saved is None:
            editor.save(self.place / "empty")
            saved = Saved.read(self.place / "empty")
        for number in range(1, count + 1):
            part = self.place / f"{_PART}{number}"
            if part not in self.parts():
                begin(saved, part)

    def _run(self, shares: Sequence[Sequence[FileRecord]], done: int, total: int) -> None:
        running: list[subprocess.Popen[bytes]] = []
        try:
            with edit_bar(total) as bar:
                for number, share in enumerate(shares, 1):
                    running.append(self._start(number, share, len(shares)))
                while self._look(running):
                    bar(done + sum(self._progress(number) for number in range(1, len(shares) + 1)))
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                bar(total)
        finally:
            with uninterrupted(), status("Saving …"):
                _stop(running)

    def _look(self, running: Sequence[subprocess.Popen[bytes]]) -> bool:
        """Return whether a process is still at work.

        Raises:
            EditError: when one has failed.
        """
        codes = [process.poll() for process in running]
        for number, code in enumerate(codes, 1):
            if code:
                raise EditError(
                    f"Worker {number} of {len(running)} failed: {self._why(number, code)} What was done is kept: the "
                    "same command continues."
                )
        return None in codes

    def _start(self, number: int, share: Sequence[FileRecord], count: int) -> subprocess.Popen[bytes]:
        file, progress = self.place / f"share-{number}.jsonl", self._progress_file(number)
        write_edits(file, share, overwrite=True)
        progress.unlink(missing_ok=True)
        command = [sys.executable, "-m", "horen.cli.worker", str(progress), "edit", str(file)]
        command += ["--into", str(self.place / f"{_PART}{number}"), "--on-conflict", "supersede"]
        command += ["--on-similar", "ignore", *self.options]
        if self.devices:
            command += ["--device", self.devices[(number - 1) % len(self.devices)]]
        with self._log(number).open("wb") as log:
            return _start(command, log, count)

    def _progress(self, number: int) -> int:
        # The file may be read while it is written.
        with suppress(OSError, ValueError):
            return int(self._progress_file(number).read_text())
        return 0

    def _why(self, number: int, code: int) -> str:
        if code < 0:
            return f"it was killed by signal {-code}, perhaps for lack of memory: try fewer."
        lines = self._log(number).read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing."]
        return next((line for line in reversed(lines) if line.startswith("Error: ")), lines[-1]).removeprefix("Error: ")

    def _progress_file(self, number: int) -> Path:
        return self.place / f"progress-{number}"

    def _log(self, number: int) -> Path:
        return self.place / f"worker-{number}.log"


def work_place(folder: Path, file: Path) -> Path:
    """Return where the work of a file for a codebook is kept until it is done: beside the codebook, hidden."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.{file.name}.workers")


def _shared_out(edits: Sequence[FileRecord], count: int) -> list[Sequence[FileRecord]]:
    """Return at most so many runs of edits of as nearly the same length as can be."""
    count = min(count, len(edits))
    ends = [len(edits) * number // count for number in range(count + 1)]
    return [edits[start:end] for start, end in pairwise(ends)]


def _words(edit: EditLike) -> tuple[str, ...]:
    return (edit.prompt, edit.target, *edit.rephrases)


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
