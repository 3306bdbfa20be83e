"""One writer at a time: the lock of a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from horen.errors import StoreError
from horen.store.content import why
from horen.store.disk import make_folder, require_folder

_LOCK = ".lock"


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
        make_folder(path)
    else:
        require_folder(path)
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
