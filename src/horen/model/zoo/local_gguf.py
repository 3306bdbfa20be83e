"""GGUF files of the user's own: converted on first use, and kept in the cache under the hash of the file.

The file is never changed, and what lies beside it is never read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from horen.errors import ModelError
from horen.extras import require
from horen.model.zoo import gguf as _gguf
from horen.model.zoo.cache import CachedFolder, Report, cache_dir, read_manifest
from horen.model.zoo.gguf_header import MAGIC, Header, read_header

WEIGHTS = "bfloat16"  # what a file is converted to where no type is named
_KIND = "gguf"
_LAYOUT = 1  # raised when a conversion of an older version must not be used any more
_CHUNK = 1 << 22
_DIGITS = 16  # of the hash, in a name; the manifest has all of it

_Stamp = tuple[int, ...]
_hashes: dict[tuple[Path, _Stamp], str] = {}  # for as long as the process lives: a file is often asked for twice


@dataclass(frozen=True)
class _Source:
    """A file as it was when it was hashed."""

    path: Path
    stamp: _Stamp
    sha256: str


@dataclass(frozen=True)
class Converted:
    """A GGUF file that has been converted.

    Attributes:
        name: of its folder in the cache.
        file: where it was.
        sha256: of the file.
        weights: the type of the converted weights.
        parameters: how many those are.
        disk_bytes: how much room they and the tokenizer take.
        chat: whether there is a chat template.
    """

    name: str
    file: Path
    sha256: str
    weights: str
    parameters: int
    disk_bytes: int
    chat: bool


def is_gguf(model: str) -> bool:
    """Return whether a model's name is the path of a GGUF file, be there one or not."""
    return model.casefold().endswith(".gguf") and not gguf_path(model).is_dir()


def gguf_path(model: str) -> Path:
    """Return the full path of a GGUF file. Links are not followed: what they lead to often has another ending."""
    return Path(os.path.abspath(os.path.expanduser(model)))  # noqa: PTH100, PTH111 - "..", and unknown users


def convert(model: str, weights: str = WEIGHTS, *, progress: bool = False) -> Path:
    """Return the folder of a GGUF file's model in transformers' format; convert the file on first use.

    Args:
        model: path of the file.
        weights: type of the converted weights: "bfloat16", "float16" or "float32".
        progress: show the phases on stderr; silent otherwise.

    Raises:
        ModelError: the file is missing, no GGUF, damaged, or holds no model with tokenizer that transformers can read;
            or the cache folder cannot be written or is full. Nothing half-made is left in place.
        MissingExtraError: it has not been converted yet, and packages that do so are not installed.
    """
    path = gguf_path(model)
    if not path.is_file():
        raise ModelError(f"The GGUF file {str(path)!r} does not exist; check the path.")
    try:
        source = _identified(path, progress)
        folder = _folder(path, source.sha256, weights)
        if folder.is_whole():
            return folder.path
        require("models", "GGUF files need", _gguf.PACKAGES)
        header = read_header(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(
            f"The file {str(path)!r} cannot be used as a model ({reason}): give a GGUF file of a language model, or a "
            "folder in transformers' format."
        ) from error
    _check(path, header)
    folder = _folder(path, source.sha256, weights, header.parameters)
    return folder.fetch(functools.partial(_build, source, weights, header.architecture), progress=progress)


def stored() -> list[Converted]:
    """Return what the cache holds of converted files, in the order of their paths."""
    found = []
    for place in (cache_dir() / _KIND).glob("*"):
        try:
            manifest = read_manifest(place)
            files = manifest["files"]
            item = Converted(
                name=place.name,
                file=Path(manifest["file"]),
                sha256=manifest["gguf_sha256"],
                weights=manifest["weights"],
                parameters=manifest["parameters"],
                disk_bytes=sum(facts["size"] for facts in files.values()),
                chat="chat_template.jinja" in files,
            )
            folder = _folder(item.file, item.sha256, item.weights)
            if folder.path == place and folder.is_whole():
                found.append(item)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # damaged: it is made anew when its file is used
    return sorted(found, key=lambda item: (item.file, item.name))


def remove(model: str) -> bool:
    """Delete what a GGUF file was converted to from the cache; return whether anything was there.

    Args:
        model: path of the file, which need not be there any more; or the name of one of :func:`stored`.

    Raises:
        ModelError: the cache folder cannot be changed.
    """
    path = gguf_path(model)
    sha256 = None
    if is_gguf(model) and path.is_file():
        # Whatever it is now: what was made of it while it was a GGUF is known by its path.
        with contextlib.suppress(OSError, ValueError):
            sha256 = _identified(path, progress=False).sha256
    wanted = [item for item in stored() if model == item.name or path == item.file or sha256 == item.sha256]
    removed = [_folder(item.file, item.sha256, item.weights).remove() for item in wanted]
    return any(removed)


def _folder(path: Path, sha256: str, weights: str, parameters: int = 0) -> CachedFolder:
    manifest = {
        "layout": _LAYOUT,
        "name": path.name,
        "file": str(path),
        "gguf_sha256": sha256,
        "weights": weights,
        "parameters": parameters,
    }
    return CachedFolder(
        _KIND,
        f"{sha256[:_DIGITS]}-{weights}",
        manifest,
        f"These files were converted by horen from {path.name} (sha256 {sha256}) to {weights} safetensors. The terms "
        "of that file hold for them.\n",
        required=("config.json",),  # very large weights are in several files, whose sizes the manifest tells
        room=_gguf.BYTES[weights] * parameters * 21 // 20,
        treatment="converted",
        identity=("layout", "gguf_sha256", "weights"),
        title=path.name,
    )


def _check(path: Path, header: Header) -> None:
    """Refuse what would fail after a long while, or would be half a model.

    Raises:
        ModelError: such a file.
    """
    if header.parts > 1:
        raise ModelError(
            f"The file {str(path)!r} is one of {header.parts} parts of a model: join them, with llama.cpp's "
            "'llama-gguf-split --merge', and give the whole file."
        )
    if header.missing:
        raise ModelError(
            f"The file {str(path)!r} is incomplete: {header.missing:,} bytes of its weights are missing; download or "
            "copy it again."
        )
    if not header.has_tokenizer:
        raise ModelError(
            f"The file {str(path)!r} holds no tokenizer, which a language model needs: give a GGUF file with one, or "
            "the model's folder in transformers' format."
        )


def _stamp(path: Path) -> _Stamp:
    """Return what changes when a file does."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_dev


def _identified(path: Path, progress: bool) -> _Source:
    """Return a file with its stamp and hash.

    Raises:
        ValueError: it does not begin like a GGUF.
        OSError: it cannot be read.
    """
    stamp = _stamp(path)
    known = _hashes.get((path, stamp))
    if known is None:
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin like a GGUF file")
            stream.seek(0)
            with Report(progress) as report:
                report.phase(f"Checking {path.name} ({stamp[0] / 1e6:.0f} MB)", stamp[0])
                known = _digest(stream.read, report.at)
        _hashes[path, stamp] = known
    return _Source(path, stamp, known)


def _digest(read: Callable[[int], bytes], on_bytes: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    while chunk := read(_CHUNK):
        digest.update(chunk)
        done += len(chunk)
        on_bytes(done)
    return digest.hexdigest()


def _build(source: _Source, weights: str, architecture: str, work: Path, made: Path, report: Report) -> None:
    path = source.path
    report.phase(f"Converting {path.name} to {weights} (once)")
    alone = work / "alone"  # transformers would also read a tokenizer, an adapter or code that lies beside a file
    alone.mkdir()
    _link(path, alone / "model.gguf")
    try:
        _gguf.convert(alone / "model.gguf", made, weights)
        changed = _stamp(path) != source.stamp
    except Exception as error:
        raise ModelError(
            f"The GGUF file {str(path)!r} (architecture {architecture!r}) cannot be converted "
            f"({_gguf.reason(error)}): a whole decoder-only model of an architecture that transformers reads from GGUF "
            "was expected; give another file, give the model's folder in transformers' format, or upgrade transformers."
        ) from error
    if changed:
        raise ModelError(f"The file {str(path)!r} was changed while it was converted; try again when it is finished.")


def _link(path: Path, link: Path) -> None:
    """Give the file a second place, with a copy only where the system has no links."""
    try:
        link.symlink_to(path)
    except (OSError, NotImplementedError):
        try:
            link.hardlink_to(path)
        except (OSError, NotImplementedError):
            shutil.copyfile(path, link)
