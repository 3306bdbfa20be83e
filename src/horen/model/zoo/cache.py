"""The user's cache folder, and folders in it that are made once: whole or not at all, by one process at a time.

A folder is made in a workspace beside its place, sealed with a manifest that is written last, and renamed into place.
Neither an interruption nor a second process can leave half a folder under its name, and a damaged one is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from horen.errors import ModelError
from horen.extras import need

_MANIFEST = "horen-manifest.json"


def cache_dir() -> Path:
    """Return the cache folder: HOREN_CACHE where it is set, else the user's cache folder (maybe not there yet).

    Raises:
        MissingExtraError: when the package that knows the user's cache folder is needed and not installed.
    """
    chosen = os.environ.get("HOREN_CACHE", "").strip()
    if not chosen:
        places = need(
            "models",
            "platformdirs",
            "The folder for embedded models, GGUF files and the text encoder of the default settings needs",
            ", or set HOREN_CACHE to a folder of your own; the preset 'activations' reads without a text encoder",
        )
        return Path(places.user_cache_path("horen", appauthor=False))
    return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - Path.expanduser raises on unknown users


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that the disk is full, be it an OSError or only its text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)  # safetensors reports it as text only


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what the manifest of a folder in the cache says.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is damaged.
    """
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict):
        raise ValueError(f"the manifest of {folder} holds no facts")
    return manifest


class Report:
    """The phases of a fetch as progress bars on stderr; draws nothing unless ``shown``."""

    def __init__(self, shown: bool) -> None:
        self._bars: Any = _bars() if shown else None
        self._task: Any = None
        self._total = 1

    def __enter__(self) -> Report:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bars is not None:
            if kind is None:
                self._finish()
            self._bars.stop()

    def phase(self, text: str, total: int | None = None) -> None:
        """Close the running phase and open the next; without a total its bar only shows that work goes on."""
        if self._bars is not None:
            self._finish()
            self._total = total or 1
            self._task = self._bars.add_task(text, total=total)

    def at(self, done: int) -> None:
        """Say how much of the running phase's total is done."""
        if self._task is not None:
            self._bars.update(self._task, completed=min(done, self._total))

    def _finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=self._total, completed=self._total)


def _bars() -> Any:
    console, rich = (
        need("cli", f"rich.{part}", "Progress bars need", ", or leave progress out") for part in ("console", "progress")
    )
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TaskProgressColumn())
    # rich would otherwise reroute what the program prints to stdout through this stderr console.
    return rich.Progress(
        *columns,
        rich.TimeElapsedColumn(),
        console=console.Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )


@dataclass(frozen=True)
class CachedFolder:
    """A flat folder of files in the cache, and what is needed to make it and to know it again.

    Attributes:
        kind: the folder of the cache that it lies in.
        name: its own name.
        manifest: what its manifest says besides its files.
        notice: the terms of use, kept beside the files.
        required: files without which it is not whole.
        room: about how many bytes making it takes at its peak.
        treatment: what is done to it when it is made, as a message says it: "converted".
        identity: which entries of its manifest tell it from one of the same name that is not the wanted one.
        title: what messages call it; its name where this is empty.
    """

    kind: str
    name: str
    manifest: Mapping[str, object]
    notice: str
    required: Collection[str]
    room: int
    treatment: str
    identity: Collection[str] = ("layout", "wheels")
    title: str = ""

    @property
    def path(self) -> Path:
        """Where it lies, or will."""
        return cache_dir() / self.kind / self.name

    def is_whole(self) -> bool:
        """Return whether it is there, finished and the wanted one, with every file at its full size."""
        folder = self.path
        try:
            manifest = read_manifest(folder)
            if any(manifest[key] != self.manifest[key] for key in self.identity):
                return False
            files = manifest["files"]
            return all(file in files for file in self.required) and all(
                (folder / file).stat().st_size == facts["size"] for file, facts in files.items()
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False  # absent, unreadable or damaged: in each case a fetch makes it anew

    def fetch(self, build: Callable[[Path, Path, Report], None], *, progress: bool = False) -> Path:
        """Return its path; make it where it is not whole.

        Args:
            build: makes the files. It is given a folder for what it needs meanwhile, the empty folder to fill, and
                the report to tell its phases to.
            progress: show the phases on stderr; silent otherwise.

        Raises:
            ModelError: the cache folder cannot be written or is full. Nothing half-made is left in place, then or
                when ``build`` raises.
        """
        folder = self.path
        if self.is_whole():
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with Report(progress) as report, _locked(folder, report, self._called):
                if not self.is_whole():  # another process may have finished while this one waited
                    self._make(folder, build, report)
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            raise self._refusal(error) from error
        return folder

    def remove(self) -> bool:
        """Delete it, and what interrupted fetches left; return whether it was there.

        Raises:
            ModelError: the cache folder cannot be changed.
        """
        folder = self.path
        if not os.path.lexists(folder) and not any(_leftovers(folder)):
            return False
        try:
            with Report(shown=False) as report, _locked(folder, report, self._called):
                _sweep(folder)
                if not os.path.lexists(folder):
                    return False
                # Renamed before it is deleted, so that an interruption cannot leave half of it under its name.
                with _workspace(folder) as work:
                    folder.replace(work / "old")
        except (OSError, NotImplementedError) as error:
            raise self._refusal(error) from error
        return True

    @property
    def _called(self) -> str:
        return self.title or self.name

    def _make(self, folder: Path, build: Callable[[Path, Path, Report], None], report: Report) -> None:
        _sweep(folder)
        if shutil.disk_usage(folder.parent).free < self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # said before the download, not after it
        with _workspace(folder) as work:
            made = work / "made"
            made.mkdir()
            build(work, made, report)
            self._seal(made)
            if os.path.lexists(folder):
                folder.replace(work / "old")
            made.replace(folder)

    def _seal(self, made: Path) -> None:
        """Write the notice and, as the last file, the manifest by which the folder is later known to be whole."""
        notice = made / "NOTICE"
        notice.write_text(self.notice, encoding="utf-8")
        mode = notice.stat().st_mode
        files = {}
        for path in sorted(made.iterdir()):
            path.chmod(mode)  # safetensors writes for the owner alone, but a cache may be shared
            with path.open("rb+") as stream:
                files[path.name] = {
                    "size": path.stat().st_size,
                    "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
                }
                os.fsync(stream.fileno())  # a power cut after the rename must not leave files of zeros
        with (made / _MANIFEST).open("w", encoding="utf-8") as stream_:
            json.dump({**self.manifest, "files": files}, stream_, indent=2)
            stream_.flush()
            os.fsync(stream_.fileno())

    def _refusal(self, error: BaseException) -> ModelError:
        place = cache_dir()
        if is_disk_full(error):
            return ModelError(
                f"The disk of the model cache {place} is full: {self._called!r} needs about {self.room / 1e9:.1f} GB "
                f"while it is {self.treatment}; free some space or set HOREN_CACHE to a folder on a larger disk."
            )
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ModelError(
            f"The model cache {place} cannot be written ({reason}), so {self._called!r} cannot be changed there; "
            "set HOREN_CACHE to a folder that you can write to."
        )


@contextlib.contextmanager
def _locked(folder: Path, report: Report, called: str) -> Iterator[None]:
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report.phase(f"Waiting for another process that is fetching {called}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _leftovers(folder: Path) -> Iterator[Path]:
    return folder.parent.glob(f".{folder.name}.partial-*")


def _sweep(folder: Path) -> None:
    """Delete the workspaces of interrupted runs; the caller holds the lock, so no live run owns one."""
    for leftover in _leftovers(folder):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """Make a temporary sibling of the folder: on the same file system, so a rename out of it is atomic."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
