"""Where a store is: a SQLite file by its path, or a PostgreSQL database by its URL."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from horen.errors import StoreError

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


def url_of(address: str | os.PathLike[str]) -> URL:
    """Return the URL of a store.

    Raises:
        StoreError: for what is neither a path nor the URL of a database that is known.
    """
    text = os.fspath(address)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).resolve()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"The address of the store is no URL ({error}): write postgresql://user@host/name.") from error
    if url.drivername == "sqlite" and url.database and not url.query:
        return url_of(url.database)
    if url.drivername not in _POSTGRES or not url.database:
        raise StoreError(
            f"The store {shown(url)} is none that is known: give the path of a SQLite file, or "
            "postgresql://user@host/name."
        )
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """Return an address as it may be shown: without a password, a file by its path."""
    if url.drivername == "sqlite" and url.database:
        return url.database
    return url.set(drivername="postgresql").render_as_string(hide_password=True)
