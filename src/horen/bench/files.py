"""Writing result files."""

from __future__ import annotations

from pathlib import Path

from horen.editfiles.atomic import whole_file
from horen.errors import StoreError


def write_text(place: Path, text: str) -> None:
    """Put a text into a file, replacing what was there.

    Raises:
        StoreError: when it cannot be written; what was there is intact.
    """
    try:
        with whole_file(place) as handle:
            handle.write(text)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"{place} cannot be written ({why}): choose a place with room and permission.") from error
