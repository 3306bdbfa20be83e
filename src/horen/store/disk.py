"""Folders and files that survive a crash: each is flushed, and so is the folder that names it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from horen.errors import StoreError
from horen.store.content import Chunk, unreadable, why


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        StoreError: when it is a file, or cannot be made.
    """
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
            sync_directory(place.parent)


def require_folder(path: Path) -> None:
    """Raise StoreError when a folder does not exist, or is a file."""
    try:
        if path.is_dir():
            return
        exists = path.exists()
    except OSError as error:
        raise unreadable(path, error) from error
    if exists:
        raise StoreError(f"{path} is a file, not a folder; give the folder that horen saved to.")
    raise StoreError(f"The folder {path} does not exist; check the path.")


def sync_directory(path: Path) -> None:
    """Flush the names of a folder to the disk."""
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


def write_file(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write a new file and flush it to the disk."""
    # A leftover of a killed write may be a link or belong to another user, so it is replaced, never reused.
    path.unlink(missing_ok=True)
    with path.open("xb") as handle:
        handle.writelines(chunks)
        handle.flush()
        os.fsync(handle.fileno())
