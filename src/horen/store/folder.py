"""A folder of settings, records and tensors that is written as a whole or not at all.

The folder holds ``config.json`` (readable by people; it also records the size and the digest of the other
two), ``edits.jsonl`` (one record a line) and ``codebook.safetensors``. This module knows nothing of models.

A write goes through four steps, and the second is the only one that counts:

1. stage: ``edits.jsonl.next``, ``codebook.safetensors.next`` and ``config.json.draft`` are written and flushed;
2. commit: ``config.json.draft`` is renamed to ``config.json.next``, which is atomic;
3. roll forward: the two staged data files take their places;
4. finish: ``config.json.next`` is renamed to ``config.json``, which is atomic too.

So ``config.json.next`` is at once the mark that a write is committed and the new configuration. A reader that
finds it takes it, and takes the staged data files where they still exist; a reader that does not find it sees
nothing of a write. Readers never write, hence they work on read-only media, and they need no lock. Whoever
writes next finishes steps 3 and 4 before anything else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import torch

from horen.errors import MismatchError, StoreError
from horen.store.card import write_card
from horen.store.content import (
    CONFIG,
    EDITS,
    TENSORS,
    Chunk,
    check_document,
    check_kind,
    document_to_bytes,
    format_of,
    parse_document,
    parse_records,
    records_to_bytes,
    unreadable,
    verify_file,
    why,
)
from horen.store.tensors import map_tensors, tensors_to_bytes

_DATA = (EDITS, TENSORS)
_NEXT = ".next"
_MARKER = CONFIG + _NEXT
_DRAFT = CONFIG + ".draft"
_LOCK = ".lock"

# A reader starts over when a writer overtakes it. A writer flushes to disk many times between two states, so a
# reader loses this race rarely, and losing it this often means that something else is wrong.
_READ_TRIES = 100


@dataclass(frozen=True)
class Folder:
    """What a folder holds; the tensors are on the CPU, mapped from the file where the system allows it.

    Attributes:
        mark: tells this content from every other that the folder held or will hold.
    """

    config: dict[str, Any]
    records: list[dict[str, Any]]
    tensors: dict[str, torch.Tensor]
    mark: str


class _State(NamedTuple):
    """The configuration in force, with enough of its identity to notice that it was replaced."""

    name: str
    raw: bytes
    inode: int
    changed_ns: int


class _Held(threading.local):
    """The folders that this thread has locked.

    The process id is part of the key because a forked child copies this set without holding the locks.
    """

    def __init__(self) -> None:
        self.keys: set[tuple[int, str]] = set()


_held = _Held()


@contextmanager
def lock_folder(path: Path, timeout: float = 10.0, *, create: bool = True) -> Iterator[None]:
    """Keep every other writer out of the folder, for a read-modify-write.

    A thread that holds the lock may take it again, which is what ``write_folder`` does. A missing folder is
    created, since a lock needs a place, unless ``create`` is false.
    """
    path = Path(path)
    key = (os.getpid(), str(path.resolve()))
    if key in _held.keys:
        yield
        return
    if create:
        _make_folder(path)
    else:
        _require_folder(path)
    # The resolved path makes one lock of all the spellings of a folder.
    lock = filelock.FileLock(Path(key[1]) / _LOCK)
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        waited = f"still writing to it after {timeout:g} s" if timeout else "writing to it"
        raise StoreError(f"{path} is in use: another process is {waited}; try again when it is done.") from None
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"{path} cannot be locked for writing ({why(error)}); choose a folder that this user may write to."
        ) from error
    _held.keys.add(key)
    try:
        yield
    finally:
        _held.keys.discard(key)
        lock.release()


def write_folder(
    path: Path,
    *,
    config: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, torch.Tensor],
    kind: str = "codebook",
    known: set[str] | None = None,
) -> None:
    """Replace what the folder holds, as a whole.

    A crash, a kill or a full disk at any moment leaves the old state or the new one. Other files in the folder
    are left alone; files of ours that this package did not write are never overwritten.

    Args:
        path: the folder.
        config: settings and whatever else is one JSON object.
        records: one JSON object a line.
        tensors: by name.
        kind: what the folder holds.
        known: marks of what it held when the caller read or wrote it, to which the new one is added; without any
            whatever is there is replaced.

    Raises:
        StoreError: when the folder cannot be written, or holds something else than what is known.
    """
    path = Path(path)
    # Everything that can be wrong with the input shows before the folder is touched.
    data = {EDITS: records_to_bytes(path, records), TENSORS: tensors_to_bytes(path, tensors)}
    document = document_to_bytes(path, config, kind, data, format_of(records))
    with lock_folder(path):
        _check_target(path, kind, known)
        _finish_previous_write(path)
        try:
            _stage_and_commit(path, data, document)
        finally:
            if known is not None and os.path.lexists(path / _MARKER):
                known.add(_mark(document))
        try:
            _sync_directory(path)
        except OSError as error:
            raise StoreError(
                f"{path} holds the new state, but the disk did not confirm it ({why(error)}); check the disk and "
                "save again."
            ) from error
        # The write is committed: readers see it, and the next writer finishes what fails here.
        with suppress(OSError):
            _roll_forward(path)
        if kind == "codebook":
            write_card(path, config)


def read_folder(path: Path, *, kind: str = "codebook") -> Folder:
    """Read a folder, checking the size and the digest of every file first. Never writes."""
    path = Path(path)
    for _ in range(_READ_TRIES):
        state = _state(path)
        if state is None:
            _require_folder(path)
            raise StoreError(
                f"{path} holds no {kind}: it has no {CONFIG}; give the folder that horen saved the {kind} in."
            )
        try:
            return _read_state(path, state, kind)
        except StoreError:
            # Files that do not match are damage only if no writer replaced them in the meantime.
            if _state(path) == state:
                raise
    raise StoreError(f"{path} kept changing while it was read; try again when the other process is done writing.")


# --- writing ---------------------------------------------------------------------------------------------------


def _make_folder(path: Path) -> None:
    try:
        missing = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StoreError(f"{path} is a file or lies below one, not a folder; choose another path.") from None
    except OSError as error:
        raise StoreError(
            f"The folder {path} cannot be created ({why(error)}); choose a place that this user may write to."
        ) from error
    # Without this a power cut may forget the folder itself. Not every parent may be opened, hence best effort.
    for place in missing:
        with suppress(OSError):
            _sync_directory(place.parent)


def _mark(document: bytes) -> str:
    # The configuration has the digests of the data and the moment of the write in it.
    return hashlib.sha256(document).hexdigest()


def _check_target(path: Path, kind: str, known: Collection[str] | None) -> None:
    """Refuse to overwrite what this package did not write, or what somebody else has written since."""
    state = _state(path)
    if state is None:
        for name in _DATA:
            if os.path.lexists(path / name):
                raise StoreError(
                    f"{path} holds a file {name} that belongs to no {kind}, and it would be overwritten; choose "
                    "another folder, or move the file away."
                )
        return
    try:
        document = parse_document(path, state.name, state.raw)
    except MismatchError:
        raise
    except StoreError as error:
        raise StoreError(
            f"{path} holds a file {state.name} that horen did not write, and it would be overwritten; choose "
            "another folder, or move the file away."
        ) from error
    check_kind(path, document, kind)
    if known and _mark(state.raw) not in known:
        raise StoreError(
            f"{path} has changed since it was read or saved from here: another process or editor saved to it, and "
            "saving now would undo that. Load it again and make your changes to that, or save to a new folder and "
            "merge the two (Editor.merge, horen merge)."
        )


def _finish_previous_write(path: Path) -> None:
    try:
        if (path / _MARKER).exists():
            _roll_forward(path)
        # The names must be settled on disk before staging reuses them: after a power cut a mark of the previous
        # write could otherwise come back beside half-written files of this one.
        _sync_directory(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({why(error)}); the state that it holds is intact. Remove the cause and "
            "save again."
        ) from error


def _stage_and_commit(path: Path, data: Mapping[str, Sequence[Chunk]], document: bytes) -> None:
    try:
        for name, chunks in data.items():
            _write_file(path / (name + _NEXT), chunks)
        _write_file(path / _DRAFT, [document])
        _sync_directory(path)
        (path / _DRAFT).replace(path / _MARKER)
    except BaseException as error:
        # Some file systems report a rename as failed although it happened, and Ctrl-C may arrive right after it.
        # The mark decides: where it stands the write is committed and its files must stay.
        committed = os.path.lexists(path / _MARKER)
        if not committed:
            _discard_staged(path)
        if not isinstance(error, OSError):
            raise
        if not committed:
            raise StoreError(
                f"{path} cannot be written: {why(error)}. The state that it held before is intact; remove the "
                "cause and save again."
            ) from error


def _roll_forward(path: Path) -> None:
    for name in _DATA:
        with suppress(FileNotFoundError):
            (path / (name + _NEXT)).replace(path / name)
    # The data files must be in place on disk before the mark goes.
    _sync_directory(path)
    (path / _MARKER).replace(path / CONFIG)
    _sync_directory(path)


def _discard_staged(path: Path) -> None:
    for name in (*(name + _NEXT for name in _DATA), _DRAFT):
        # What cannot be removed now is no harm: readers ignore it, and the next writer replaces it.
        with suppress(OSError):
            (path / name).unlink(missing_ok=True)


def _write_file(path: Path, chunks: Sequence[Chunk]) -> None:
    # A leftover of a killed write may be a link or belong to another user, so it is replaced, never reused.
    path.unlink(missing_ok=True)
    with path.open("xb") as handle:
        handle.writelines(chunks)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":
        # Windows neither needs nor allows this.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; they order renames by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


# --- reading ---------------------------------------------------------------------------------------------------


def _require_folder(path: Path) -> None:
    try:
        if path.is_dir():
            return
        exists = path.exists()
    except OSError as error:
        raise unreadable(path, error) from error
    if exists:
        raise StoreError(f"{path} is a file, not a folder; give the folder that horen saved to.")
    raise StoreError(f"The folder {path} does not exist; check the path.")


def _state(path: Path) -> _State | None:
    # The mark first: a configuration that is read after the mark was absent is the old state or a newer one.
    for name in (_MARKER, CONFIG):
        try:
            with (path / name).open("rb") as handle:
                status = os.fstat(handle.fileno())
                return _State(name, handle.read(), status.st_ino, status.st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise unreadable(path / name, error) from error
    return None


def _read_state(path: Path, state: _State, kind: str) -> Folder:
    document = parse_document(path, state.name, state.raw)
    check_kind(path, document, kind)
    config = check_document(path, state.name, document)
    with ExitStack() as stack:
        # All are opened before any is read: from here on a writer may replace the names, not these files.
        handles = {name: stack.enter_context(_open_data(path, name, state)) for name in _DATA}
        try:
            for name, handle in handles.items():
                verify_file(path, name, handle, document)
            records = parse_records(path, handles[EDITS].read())
            tensors = map_tensors(path, handles[TENSORS])
        except OSError as error:
            raise unreadable(path, error) from error
    return Folder(config=config, records=records, tensors=tensors, mark=_mark(state.raw))


def _open_data(path: Path, name: str, state: _State) -> BufferedReader:
    # Only under the mark do staged files count; without it they are leftovers of a write that never happened.
    candidates = [path / name] if state.name == CONFIG else [path / (name + _NEXT), path / name]
    for candidate in candidates:
        try:
            return candidate.open("rb")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unreadable(candidate, error) from error
    raise StoreError(f"{path / name} is missing, so the folder is incomplete; restore the folder from a copy.")
