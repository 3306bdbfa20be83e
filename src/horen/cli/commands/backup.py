"""The command that copies a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from horen.cli.options import AsJson, StorePlace
from horen.cli.stores.opening import opened
from horen.cli.terminal import emit, show


def backup(
    store: StorePlace,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the copy.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Copy a store in a SQLite file.

    It is copied as one version while it is read and written. The copy is a store like any other: put it back in the
    place of the old one, or open it where it is. A store in PostgreSQL is backed up by PostgreSQL's own programs, such
    as pg_dump.

    \b
    Example:
      horen backup facts.db facts-2027-01-31.db
    """
    with opened(store) as database:
        database.backup(file)
        version = database.version
    if as_json:
        emit({"store": str(store), "file": str(file), "version": version, "bytes": file.stat().st_size})
        return
    show(f"{file} is a copy of {store} ({file.stat().st_size:,} bytes).")
