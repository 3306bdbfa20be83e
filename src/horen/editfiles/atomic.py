"""Writing a file as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(place: Path, *, before_replacing: Callable[[], None] = lambda: None) -> Iterator[IO[str]]:
    """Open a new UTF-8 text file that takes its place at the end of the block.

    An error leaves what was there as it was.

    Args:
        place: where it goes.
        before_replacing: called when all is on the disk; what it raises keeps the file from its place.

    Raises:
        OSError: when it cannot be written.
    """
    with _taking(place, before_replacing) as draft, draft.open("x", encoding="utf-8", newline="") as handle:
        yield handle
        handle.flush()
        os.fsync(handle.fileno())


def write_whole(place: Path, content: bytes) -> None:
    """Write a file as a whole; an error leaves what was there as it was.

    Raises:
        OSError: when it cannot be written.
    """
    with _taking(place, lambda: None) as draft, draft.open("xb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def _taking(place: Path, before_replacing: Callable[[], None]) -> Iterator[Path]:
    """Give a draft that takes a file's place at the end of the block, and is gone after an error."""
    draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield draft
        before_replacing()
        draft.replace(place)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
