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
    """A new UTF-8 text file that takes its place at the end of the block; an error leaves what was there as it was.

    Args:
        place: where it goes.
        before_replacing: called when all is on the disk; what it raises keeps the file from its place.

    Raises:
        OSError: when it cannot be written.
    """
    draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("x", encoding="utf-8", newline="") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        before_replacing()
        draft.replace(place)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
