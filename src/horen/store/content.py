"""What the files of a stored folder say: content to bytes and back, and every check on the way.

``config.json`` describes the other two files by size and digest, and itself by a checksum, so that damage of any
byte shows before anything is used.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

from horen._version import __version__
from horen.errors import MismatchError, StoreError

#: The newest format that is known. 2: settings of recall and of texts, packed values, several values an edit; 3: edits
#: without entries, and the compaction that dropped them; 4: additions beside the first files; 5: packed keys; 6: the
#: store that a folder follows, and edits that are restored.
FORMAT = 6
# What is written where nothing asks for more, so that releases which know no more can read it.
USUAL, _COMPACTED, _GROWN, _PACKED_KEYS, _FOLLOWS = 2, 3, 4, 5, 6
#: Where a configuration says which store its folder follows.
FOLLOWS = "store"

CONFIG = "config.json"
EDITS = "edits.jsonl"
TENSORS = "codebook.safetensors"

#: A part of a file's content, a byte an item.
Chunk = bytes | memoryview

# Bytes of records that are made at a time.
_BLOCK = 1 << 16
# Bytes of a file whose digest is made at a time. Between two of them a thread waits for the interpreter, for as long as
# another one lets it.
_READ = 1 << 22


@contextmanager
def uncollected() -> Iterator[None]:
    """Search for no cycles within the block: a history is many objects without one, and the search doubles the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Data:
    """The content of a file in parts, which are made each time that they are read, and not kept.

    Attributes:
        size: its bytes.
        sha256: its digest.
    """

    def __init__(self, made: Callable[[], Iterable[Chunk]]) -> None:
        self._made = made
        self.size, digest = 0, hashlib.sha256()
        for chunk in self:
            self.size += len(chunk)
            digest.update(chunk)
        self.sha256 = digest.hexdigest()

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._made())


class EachAsked(Sequence[dict[str, Any]]):
    """Records that are made when they are asked for."""

    @abstractmethod
    def record(self, place: int) -> dict[str, Any]:
        """Return one of them, from 0."""

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one, or those of a slice, as a list has them."""
        places = range(len(self))[place]
        return self.record(places) if isinstance(places, int) else [self.record(each) for each in places]


@runtime_checkable
class Written(Protocol):
    """Records some of which are there as the lines that they become."""

    def written(self, begin: int) -> Iterator[Mapping[str, Any] | bytes]:
        """Yield the records from a number on, or the lines of some that were edits, without their ends."""

    def any_has(self, name: str) -> bool:
        """Return whether a record has a list of ids of this name."""


def records_to_bytes(path: Path, records: Sequence[Mapping[str, Any]], begin: int = 0) -> Data:
    """Put one record on a line, from a number on.

    Raises:
        StoreError: when one is not JSON.
    """
    return Data(lambda: _blocks(path, _each(records, begin)))


def _each(records: Sequence[Mapping[str, Any]], begin: int = 0) -> Iterable[Mapping[str, Any] | bytes]:
    if isinstance(records, Written):
        return records.written(begin)
    return map(records.__getitem__, range(begin, len(records))) if begin else records


def as_json(record: Mapping[str, Any]) -> bytes:
    """Return a record as it is written, without the end of the line.

    Raises:
        TypeError: when it is not JSON.
        ValueError: likewise.
        RecursionError: likewise.
    """
    line = json.dumps(dict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return line.encode("utf-8")


def _blocks(path: Path, records: Iterable[Mapping[str, Any] | bytes]) -> Iterator[bytes]:
    """Yield the lines of records, many at a time."""
    block = bytearray()
    for number, record in enumerate(records, start=1):
        try:
            block += record if isinstance(record, bytes) else as_json(record)
            block += b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"{path} was not written: record {number} is not a JSON object ({error}); use text, finite numbers, "
                "lists and dictionaries only."
            ) from error
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def format_of(config: Mapping[str, Any], records: Sequence[Mapping[str, Any]], *, grown: bool = False) -> int:
    """Return the number of the oldest format that can hold settings and records, added to other files or not."""
    if FOLLOWS in config or _any_has(records, "restored"):
        return _FOLLOWS
    if "key_storage" in config.get("settings", ()):
        return _PACKED_KEYS
    if grown:
        return _GROWN
    return _COMPACTED if _any_has(records, "dropped") else USUAL


def _any_has(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return records.any_has(name) if isinstance(records, Written) else any(name in record for record in records)


def document_to_bytes(
    path: Path,
    config: Mapping[str, Any],
    kind: str,
    data: Mapping[str, Data],
    number: int,
    kept: Mapping[str, Any],
) -> bytes:
    """Compose ``config.json``: the caller's settings and the description, in a format, of the files beside it.

    ``kept`` describes those that stay as they are.
    """
    try:
        document: dict[str, Any] = {
            "horen_version": __version__,
            "format": number,
            "kind": kind,
            "files": dict(kept)
            | {name: {"bytes": content.size, "sha256": content.sha256} for name, content in data.items()},
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


def check_size(path: Path, name: str, handle: BufferedReader, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Compare the length of an open file with its description, which is given back."""
    files = document.get("files")
    entry = files.get(name) if isinstance(files, dict) else None
    if not isinstance(entry, dict):
        raise damaged(path, CONFIG, f"it does not describe {name}")
    size = os.fstat(handle.fileno()).st_size
    if size != entry.get("bytes"):
        raise damaged(path, name, f"it has {size} bytes where {entry.get('bytes')} were written")
    return entry


def verify_file(path: Path, name: str, handle: BufferedReader, document: Mapping[str, Any]) -> None:
    """Compare an open file with its description, and leave it at its start."""
    entry = check_size(path, name, handle, document)
    digest, room = hashlib.sha256(), memoryview(bytearray(min(_READ, max(1, int(entry["bytes"])))))
    while count := handle.readinto(room):
        digest.update(room[:count])
    if digest.hexdigest() != entry.get("sha256"):
        raise damaged(path, name, "its content is not what was written")
    handle.seek(0)


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines of a file of records."""
    # Bytes split at line feeds only; text may hold other characters that count as line ends.
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def parse_records(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Read the records of all lines."""
    lines = split_lines(content)
    try:
        # As one list in a third of the time; a line that is no single value changes the count or cannot be read.
        records = json.loads(b"[" + b",".join(lines) + b"]")
        if len(records) == len(lines) and all(type(record) is dict for record in records):
            return list(records)
    except (ValueError, RecursionError):
        pass
    return list(_records_one_by_one(path, lines))


def _records_one_by_one(path: Path, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        yield record_of(path, line, f"line {number}")


def record_of(path: Path, line: bytes, which: str) -> dict[str, Any]:
    """Read the record of a line.

    Raises:
        StoreError: naming ``which`` line it is, when it is no JSON object.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise damaged(path, EDITS, f"{which} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise damaged(path, EDITS, f"{which} is not an object")
    return found


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
