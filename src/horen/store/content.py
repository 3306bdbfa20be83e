"""What the files of a stored folder say: content to bytes and back, and every check on the way.

``config.json`` describes the other two files by size and digest, and itself by a checksum, so that damage of any
byte shows before anything is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from horen._version import __version__
from horen.errors import MismatchError, StoreError

FORMAT = 1

CONFIG = "config.json"
EDITS = "edits.jsonl"
TENSORS = "codebook.safetensors"


def records_to_bytes(path: Path, records: Sequence[Mapping[str, Any]]) -> bytes:
    """Put one record on a line."""
    lines = []
    for number, record in enumerate(records, start=1):
        try:
            line = json.dumps(dict(record), ensure_ascii=False, allow_nan=False)
            lines.append(line.encode("utf-8") + b"\n")
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"{path} was not written: record {number} is not a JSON object ({error}); use text, finite numbers, "
                "lists and dictionaries only."
            ) from error
    return b"".join(lines)


def tensors_to_bytes(path: Path, tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Serialize tensors with their exact types and shapes."""
    packed: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    try:
        for name, tensor in tensors.items():
            if name == "__metadata__":
                raise ValueError("the name '__metadata__' is reserved by the file format")
            plain = tensor.detach().to("cpu").contiguous()
            # The format refuses tensors that share memory, as two slices of one buffer do.
            if plain.untyped_storage().data_ptr() in storages:
                plain = plain.clone()
            storages.add(plain.untyped_storage().data_ptr())
            packed[name] = plain
        return safetensors.torch.save(packed)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise StoreError(
            f"{path} was not written: its tensors cannot be saved ({error}); give dense tensors under names that are "
            "text."
        ) from error


def document_to_bytes(path: Path, config: Mapping[str, Any], kind: str, data: Mapping[str, bytes]) -> bytes:
    """Compose ``config.json``: the caller's settings and the description of the files beside it."""
    try:
        document: dict[str, Any] = {
            "horen_version": __version__,
            "format": FORMAT,
            "kind": kind,
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in data.items()
            },
            # Through JSON and back, so that the checksum sees what a reader will see (tuples become lists).
            "config": json.loads(json.dumps(dict(config), allow_nan=False)),
        }
        document["checksum"] = _checksum(document)
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} was not written: its configuration is not JSON ({error}); use text, finite numbers, lists and "
            "dictionaries only."
        ) from error


def parse_document(path: Path, name: str, raw: bytes) -> dict[str, Any]:
    """Take a configuration apart as far as is needed to tell whose it is and whether it can be understood."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(path, name, f"it is not JSON ({error})") from error
    if not isinstance(document, dict) or not isinstance(document.get("horen_version"), str):
        raise StoreError(
            f"{path / name} was not written by horen: it names no horen_version; give the folder that horen saved to."
        )
    number = document.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise damaged(path, name, f"its format is {number!r}")
    if number > FORMAT:
        raise MismatchError(
            f"{path} was made by horen {document['horen_version']}, a newer version that writes format {number}; this "
            f"is horen {__version__}, which knows format {FORMAT}. Upgrade with: pip install --upgrade horen"
        )
    return document


def check_kind(path: Path, document: Mapping[str, Any], kind: str) -> None:
    """Refuse a folder that holds something else."""
    if document.get("kind") != kind:
        raise StoreError(f"{path} holds a {document.get('kind')}, not a {kind}; give another folder.")


def check_document(path: Path, name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Compare a document with its own checksum and give back the caller's settings."""
    described = {key: value for key, value in document.items() if key != "checksum"}
    settings = document.get("config")
    if document.get("checksum") != _checksum(described) or not isinstance(settings, dict):
        raise damaged(path, name, "its checksum does not match its content")
    return settings


def verify_file(path: Path, name: str, handle: BufferedReader, document: Mapping[str, Any]) -> None:
    """Compare an open file with its description, and leave it at its start."""
    files = document.get("files")
    entry = files.get(name) if isinstance(files, dict) else None
    if not isinstance(entry, dict):
        raise damaged(path, CONFIG, f"it does not describe {name}")
    size = os.fstat(handle.fileno()).st_size
    if size != entry.get("bytes"):
        raise damaged(path, name, f"it has {size} bytes where {entry.get('bytes')} were written")
    if hashlib.file_digest(handle, "sha256").hexdigest() != entry.get("sha256"):
        raise damaged(path, name, "its content is not what was written")
    handle.seek(0)


def parse_records(path: Path, handle: BufferedReader) -> Iterator[dict[str, Any]]:
    """Read one record after another."""
    # A binary file splits at line feeds only; text may hold other characters that count as line ends.
    for number, line in enumerate(handle, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise damaged(path, EDITS, f"line {number} is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise damaged(path, EDITS, f"line {number} is not an object")
        yield record


def parse_tensors(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    """Read tensors to the CPU; from bytes, since a mapped file could change or keep a writer from replacing it."""
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise damaged(path, TENSORS, f"it is not a safetensors file ({error})") from error


def _checksum(document: Mapping[str, Any]) -> str:
    plain = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # Text that UTF-8 cannot hold is refused when the document itself is encoded.
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def damaged(path: Path, name: str, how: str) -> StoreError:
    """Say that a file is not what was written."""
    return StoreError(f"{path / name} is truncated or was altered: {how}; restore the folder from a copy.")


def unreadable(path: Path, error: OSError) -> StoreError:
    """Say that the system does not let a file be read."""
    return StoreError(f"{path} cannot be read ({why(error)}); check the path and its permissions.")


def why(error: Exception) -> str:
    """Name the cause of a failure in words that go into a sentence."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()
