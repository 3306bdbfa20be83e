"""A folder of settings, records and tensors that is written as a whole or not at all.

The folder holds ``config.json`` (readable by people; it also records the size and the digest of the other
two), ``edits.jsonl`` (one record a line) and ``codebook.safetensors``, and additions to these two
(:mod:`horen.store.additions`). This module knows nothing of models.

A write goes through four steps, and the second is the only one that counts:

1. stage: ``edits.jsonl.next``, ``codebook.safetensors.next`` (or an addition to each) and ``config.json.draft`` are
   written and flushed;
2. commit: ``config.json.draft`` is renamed to ``config.json.next``, which is atomic;
3. roll forward: the two staged data files take their places;
4. finish: ``config.json.next`` is renamed to ``config.json``, which is atomic too.

So ``config.json.next`` is at once the mark that a write is committed and the new configuration. A reader that
finds it takes it, and takes the staged data files where they still exist; a reader that does not find it sees
nothing of a write. Readers never write, hence they work on read-only media, and they need no lock. Whoever
writes next finishes steps 3 and 4 before anything else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from horen.errors import MismatchError, StoreError
from horen.store.additions import Begun, Known, addition, further
from horen.store.card import write_card
from horen.store.content import (
    CONFIG,
    EDITS,
    TENSORS,
    Data,
    check_kind,
    document_to_bytes,
    format_of,
    parse_document,
    records_to_bytes,
    why,
)
from horen.store.disk import sync_directory, write_file
from horen.store.lock import lock_folder
from horen.store.names import FIRST, MARKER, NEXT, is_addition, listed
from horen.store.reading import Opened, State, settled, state_of
from horen.store.scanned import FileLines
from horen.store.tensors import joined, map_tensors, tensors_to_bytes

_DRAFT = CONFIG + ".draft"

_Used = TypeVar("_Used")


@dataclass(frozen=True)
class Folder:
    """What a folder holds; the tensors are on the CPU, mapped from the file where the system allows it.

    Attributes:
        mark: tells this content from every other that the folder held or will hold.
    """

    config: dict[str, Any]
    records: Sequence[dict[str, Any]]
    tensors: dict[str, torch.Tensor]
    mark: str

    @classmethod
    def read(cls, state: State, opened: Opened, used: Callable[[FileLines], _Used]) -> tuple[Folder, _Used]:
        """Read a folder whose files are open, and use its records while its tensors are compared with their digest.

        Raises:
            StoreError: when a file is not what was written.
        """
        with ThreadPoolExecutor(1) as beside:
            tensors = beside.submit(_tensors, opened)
            lines = FileLines.of(opened)
            found = used(lines)
            return cls(opened.config, lines, tensors.result(), _mark(state.raw)), found


def write_folder(
    path: Path,
    *,
    config: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, torch.Tensor],
    kind: str = "codebook",
    known: Known | None = None,
    grows: Collection[str] = (),
) -> None:
    """Replace what the folder holds, as a whole.

    A crash, a kill or a full disk at any moment leaves the old state or the new one. Other files in the folder
    are left alone; files of ours that this package did not write are never overwritten. Where it is known what the
    folder holds, only what is new is written, into further files (:mod:`horen.store.additions`), unless it is much.

    Args:
        path: the folder.
        config: settings and whatever else is one JSON object.
        records: one JSON object a line.
        tensors: by name.
        kind: what the folder holds.
        known: marks of what it held when the caller read or wrote it, to which the new one is added; without any
            whatever is there is replaced. What goes with a mark has to be true, for the rest is not looked at.
        grows: names of the tensors to which rows are only ever added.

    Raises:
        StoreError: when the folder cannot be written, or holds something else than what is known.
    """
    path, content = Path(path), _Content(config, records, tensors, kind, grows)
    # Everything that can be wrong with the input shows before the folder is touched.
    mark, write = content.for_folder(path, known)
    with lock_folder(path):
        state = _check_target(path, kind, known)
        if mark != (None if state is None else _mark(state.raw)):
            _, write = content.for_folder(path, known)  # another thread of the caller's has saved meanwhile
        _finish_previous_write(path)
        try:
            _stage_and_commit(path, write)
        finally:
            if known is not None and os.path.lexists(path / MARKER):
                known[_mark(write.document)] = Begun.of(records, tensors)
        _confirm(path)
        if known is not None:
            for other in known.keys() - {_mark(write.document)}:
                del known[other]  # the folder holds this now, for good
        _settle(path, write)
        if kind == "codebook":
            write_card(path, config)


def add_to_folder(
    path: Path,
    mark: str,
    *,
    config: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    rows: Mapping[str, torch.Tensor],
) -> bool:
    """Add records and rows of tables to a codebook's folder, which is not read for that; as a whole or not at all.

    Args:
        path: the folder.
        mark: of what it holds.
        config: that takes the place of the one that it has.
        records: that are new, one JSON object a line.
        rows: that are new, by the names of their tables.

    Returns:
        Whether they are there; not where all files should be written anew.

    Raises:
        StoreError: when the folder cannot be written, or holds something else by now.
    """
    with lock_folder(path):
        state = _check_target(path, "codebook", (mark,))
        if state is None:
            return False
        _finish_previous_write(path)  # its files have their names then
        document = parse_document(path, state.name, state.raw)
        data = further(path, document, records, rows) if _is_whole(path, document) else None
        if data is None:
            return False
        write = _added(path, config, "codebook", data, document)
        _stage_and_commit(path, write)
        _confirm(path)
        _settle(path, write)
        write_card(path, config)
    return True


def configuration(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the mark of what a codebook's folder holds, and its configuration; the other files are not read.

    Raises:
        StoreError: when it is missing, truncated, altered or no codebook.
        MismatchError: when a newer version made it.
    """
    return settled(path, "codebook", lambda state, opened: (_mark(state.raw), opened.config))


def read_folder(path: Path, *, kind: str = "codebook") -> Folder:
    """Read a folder, checking the size and the digest of every file first. Never writes."""
    return settled(Path(path), kind, _read)


def _read(state: State, opened: Opened) -> Folder:
    folder, records = Folder.read(state, opened, FileLines.read)
    return replace(folder, records=records)


def _tensors(opened: Opened) -> dict[str, torch.Tensor]:
    return joined(opened.path, [map_tensors(opened.path, handle) for handle in opened.verified(TENSORS)])


# --- writing ---------------------------------------------------------------------------------------------------


class _Write(NamedTuple):
    """What a write puts into a folder: new files by name, the configuration, and the names of all that it lists."""

    data: Mapping[str, Data]
    document: bytes
    files: Collection[str]


@dataclass(frozen=True)
class _Content:
    """What shall be in a folder; see :func:`write_folder`."""

    config: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    tensors: Mapping[str, torch.Tensor]
    kind: str
    grows: Collection[str]

    def for_folder(self, path: Path, known: Known | None) -> tuple[str | None, _Write]:
        """Return the mark of what a folder holds, None for nothing, and what to write for it to hold this."""
        state = state_of(path)
        mark = None if state is None else _mark(state.raw)
        begun = known.get(mark) if known and mark is not None else None
        if state is not None and begun is not None:
            document = parse_document(path, state.name, state.raw)
            data = addition(path, document, begun, self.records, self.tensors, self.grows)
            if data is not None and _is_whole(path, document):
                return mark, _added(path, self.config, self.kind, data, document)
        tensors = tensors_to_bytes(path, self.tensors)
        data = {EDITS: records_to_bytes(path, self.records), TENSORS: Data(lambda: tensors)}
        number = format_of(self.config, self.records)
        return mark, _Write(data, document_to_bytes(path, self.config, self.kind, data, number, {}), tuple(data))


def _added(
    path: Path, config: Mapping[str, Any], kind: str, data: Mapping[str, Data], document: Mapping[str, Any]
) -> _Write:
    """Return what adds files to those that a folder's configuration lists."""
    kept = document["files"]
    grown = any(map(is_addition, (*kept, *data)))
    number = max(document["format"], format_of(config, (), grown=grown))
    return _Write(data, document_to_bytes(path, config, kind, data, number, kept), (*kept, *data))


def mark_of(path: Path) -> str | None:
    """Return the mark of what a folder holds; None where that is nothing.

    Raises:
        StoreError: when it cannot be read.
    """
    state = state_of(path)
    return None if state is None else _mark(state.raw)


def _mark(document: bytes) -> str:
    # The configuration has the digests of the data and the moment of the write in it.
    return hashlib.sha256(document).hexdigest()


def _check_target(path: Path, kind: str, known: Collection[str] | None) -> State | None:
    """Refuse to overwrite what this package did not write, or what somebody else has written since."""
    state = state_of(path)
    if state is None:
        for name in FIRST:
            if os.path.lexists(path / name):
                raise StoreError(
                    f"{path} holds a file {name} that belongs to no {kind}, and it would be overwritten; choose "
                    "another folder, or move the file away."
                )
        return None
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
    return state


def _is_whole(path: Path, document: Mapping[str, Any]) -> bool:
    """Return whether the files that a write would leave as they are have the length that they should have."""
    try:
        return all(
            (path / name).stat().st_size == document["files"][name]["bytes"]
            for names in listed(path, document).values()
            for name in names
        )
    except (OSError, KeyError, TypeError):
        return False


def _finish_previous_write(path: Path) -> None:
    try:
        if (path / MARKER).exists():
            _roll_forward(path)
        # A file that was staged for a write that never happened would pass for a part of the next one.
        for name in _staged(path):
            (path / name).unlink()
        # The names must be settled on disk before staging reuses them: after a power cut a mark of the previous
        # write could otherwise come back beside half-written files of this one.
        sync_directory(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({why(error)}); the state that it holds is intact. Remove the cause and "
            "save again."
        ) from error


def _stage_and_commit(path: Path, write: _Write) -> None:
    try:
        for name, chunks in write.data.items():
            write_file(path / (name + NEXT), chunks)
        write_file(path / _DRAFT, [write.document])
        sync_directory(path)
        (path / _DRAFT).replace(path / MARKER)
    except BaseException as error:
        # Some file systems report a rename as failed although it happened, and Ctrl-C may arrive right after it.
        # The mark decides: where it stands the write is committed and its files must stay.
        committed = os.path.lexists(path / MARKER)
        if not committed:
            # What cannot be removed now is no harm: readers ignore it, and the next writer removes it.
            for name in (*(name + NEXT for name in write.data), _DRAFT):
                with suppress(OSError):
                    (path / name).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        if not committed:
            raise StoreError(
                f"{path} cannot be written: {why(error)}. The state that it held before is intact; remove the "
                "cause and save again."
            ) from error


def _confirm(path: Path) -> None:
    """Have the disk confirm that a write is committed."""
    try:
        sync_directory(path)
    except OSError as error:
        raise StoreError(
            f"{path} holds the new state, but the disk did not confirm it ({why(error)}); check the disk and "
            "save again."
        ) from error


def _settle(path: Path, write: _Write) -> None:
    """Give the files of a committed write their names: readers see it already, and the next writer does what fails."""
    with suppress(OSError):
        _roll_forward(path)
        _drop_unlisted(path, write.files)


def _roll_forward(path: Path) -> None:
    document = parse_document(path, MARKER, (path / MARKER).read_bytes())
    for names in listed(path, document).values():
        for name in names:
            with suppress(FileNotFoundError):
                (path / (name + NEXT)).replace(path / name)
    # The data files must be in place on disk before the mark goes.
    sync_directory(path)
    (path / MARKER).replace(path / CONFIG)
    sync_directory(path)


def _staged(path: Path) -> list[str]:
    """Return the names of what lies staged in a folder."""
    names = {*(name + NEXT for name in FIRST), _DRAFT}
    return [
        entry.name
        for entry in path.iterdir()
        if entry.name in names or (entry.name.endswith(NEXT) and is_addition(entry.name))
    ]


def _drop_unlisted(path: Path, files: Collection[str]) -> None:
    """Remove additions that are in the first files by now."""
    for entry in path.iterdir():
        if is_addition(entry.name) and entry.name not in files:
            entry.unlink(missing_ok=True)
