"""Writing result files as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from horen.errors import StoreError


def write_text(place: Path, text: str) -> None:
    """Put a text into a file, replacing what was there.

    Raises:
        StoreError: when it cannot be written; what was there is intact.
    """
    draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("x", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(place)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            why = error.strerror or error
            raise StoreError(f"{place} cannot be written ({why}): choose a place with room and permission.") from error
        raise
