"""Reading a folder while others may write to it: which state is in force, and its files, opened and compared.

It knows what the files are called and not what is in them, and needs no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from horen.errors import StoreError
from horen.store.content import (
    CONFIG,
    check_document,
    check_kind,
    check_size,
    parse_document,
    unreadable,
    verify_file,
)
from horen.store.disk import require_folder
from horen.store.names import MARKER, NEXT, listed

# A reader starts over when a writer overtakes it. A writer flushes to disk many times between two states, so a
# reader loses this race rarely, and losing it this often means that something else is wrong.
_TRIES = 100

_Found = TypeVar("_Found")


class State(NamedTuple):
    """The configuration in force, with enough of its identity to notice that it was replaced."""

    name: str
    raw: bytes
    inode: int
    changed_ns: int


@dataclass(frozen=True)
class Opened:
    """The files of a folder, all of them open, each as long as it should be.

    Attributes:
        path: the folder.
        config: what its writer has put into the configuration.
        files: names of each of the first files and its additions, in order.
    """

    path: Path
    config: dict[str, Any]
    files: Mapping[str, list[str]]
    _document: Mapping[str, Any]
    _handles: Mapping[str, BufferedReader]

    def verified(self, first: str) -> list[BufferedReader]:
        """Compare a first file and its additions with their digests, and give them back, each at its start.

        Raises:
            StoreError: when one is not what was written.
        """
        return [self.verified_one(name) for name in self.files[first]]

    def verified_one(self, name: str) -> BufferedReader:
        """Compare one file with its digest, and give it back at its start.

        Raises:
            StoreError: when it is not what was written.
        """
        handle = self._handles[name]
        verify_file(self.path, name, handle, self._document)
        return handle

    def digests(self) -> dict[str, str]:
        """Return by the name of each file the digest that it should have."""
        described = self._document["files"]
        return {name: str(described[name]["sha256"]) for names in self.files.values() for name in names}


def state_of(path: Path) -> State | None:
    """Return the state of a folder that is in force; None where it has none.

    Raises:
        StoreError: when it cannot be read.
    """
    # The mark first: a configuration that is read after the mark was absent is the old state or a newer one.
    for name in (MARKER, CONFIG):
        try:
            with (path / name).open("rb") as handle:
                status = os.fstat(handle.fileno())
                return State(name, handle.read(), status.st_ino, status.st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise unreadable(path / name, error) from error
    return None


def settled(path: Path, kind: str, read: Callable[[State, Opened], _Found]) -> _Found:
    """Return what is read of a folder in one state of it.

    Args:
        path: the folder.
        kind: what it should hold.
        read: what reads it; it is called again where a writer has overtaken it.

    Raises:
        StoreError: when there is nothing to read, or it is damaged.
    """
    for _ in range(_TRIES):
        state = state_of(path)
        if state is None:
            require_folder(path)
            raise StoreError(
                f"{path} holds no {kind}: it has no {CONFIG}; give the folder that horen saved the {kind} in."
            )
        try:
            with _opened(path, state, kind) as files:
                return read(state, files)
        except StoreError:
            # Files that do not match are damage only if no writer replaced them in the meantime.
            if state_of(path) == state:
                raise
    raise StoreError(f"{path} kept changing while it was read; try again when the other process is done writing.")


@contextmanager
def _opened(path: Path, state: State, kind: str) -> Iterator[Opened]:
    document = parse_document(path, state.name, state.raw)
    check_kind(path, document, kind)
    config = check_document(path, state.name, document)
    with ExitStack() as stack:
        # All are opened before any is read: from here on a writer may replace the names, not these files.
        files = listed(path, document)
        handles = {
            name: stack.enter_context(_open_data(path, name, state)) for names in files.values() for name in names
        }
        try:
            for name, handle in handles.items():
                check_size(path, name, handle, document)
            yield Opened(path, config, files, document, handles)
        except OSError as error:
            raise unreadable(path, error) from error


def _open_data(path: Path, name: str, state: State) -> BufferedReader:
    # Only under the mark do staged files count; without it they are leftovers of a write that never happened.
    candidates = [path / name] if state.name == CONFIG else [path / (name + NEXT), path / name]
    for candidate in candidates:
        try:
            return candidate.open("rb")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unreadable(candidate, error) from error
    raise StoreError(f"{path / name} is missing, so the folder is incomplete; restore the folder from a copy.")
