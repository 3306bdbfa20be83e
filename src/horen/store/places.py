"""Telling the address of a store, a database, from the path of a codebook's folder; no database is asked."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_ENDINGS = (".db", ".sqlite", ".sqlite3")
_BEGINS = b"SQLite format 3\0"
# A password stands before the last @, whatever is in it, or among the parameters.
_PASSWORDS = (
    (re.compile(r"(\w://[^\s:/?#@]*):\S*@"), r"\1:***@"),
    (re.compile(r"(\w://\S*[?&](?:ssl)?password)=[^\s&#]*"), r"\1=***"),
)


def is_store(address: str | os.PathLike[str]) -> bool:
    """Return whether an address is that of a store, and not of a codebook's folder."""
    text = os.fspath(address)
    if "://" in text:
        return True
    path = Path(text)
    if path.is_file() and path.suffix not in _ENDINGS:
        with suppress(OSError), path.open("rb") as handle:  # what cannot be read is told by whoever opens it
            return handle.read(len(_BEGINS)) == _BEGINS
    return not path.is_dir() and path.suffix in _ENDINGS


def without_passwords(text: str) -> str:
    """Return a text as it may be shown: without the passwords of the addresses that are in it."""
    for found, instead in _PASSWORDS:
        text = found.sub(instead, text)
    return text
