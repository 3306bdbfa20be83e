"""Making stores, and the folders that follow them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from horen.cli.options import Place
from horen.cli.stores.told import Told
from horen.cli.terminal import status
from horen.errors import ConfigError

if TYPE_CHECKING:
    from horen.database import Store
    from horen.database.snapshot import Snapshot


def is_there(place: Place) -> bool:
    """Return whether a store is there already.

    Raises:
        StoreError: when the database cannot be read.
    """
    from horen.database.address import url_of  # noqa: PLC0415
    from horen.database.connection import Database  # noqa: PLC0415
    from horen.database.migrating import present  # noqa: PLC0415

    url = url_of(place.text)
    if url.drivername == "sqlite" and not Path(url.database or "").exists():
        return False
    database = Database(url)
    try:
        with database.reading() as connection:
            return present(connection) is not None
    finally:
        database.close()


def take_folder(folder: Path, place: Place, told: Told) -> Store:
    """Make a store of a saved codebook, and return it open.

    Raises:
        ConfigError: when there is a store already.
        StoreError: when the folder cannot be read, or the store not be written.
    """
    from horen.database import Store  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    saved = Saved.read(folder)
    if is_there(place):
        raise ConfigError(
            f"{place} holds a store already, and a codebook's folder makes a new one: name another, or write its edits "
            f"into a file (horen export {folder} edits.jsonl) and import that."
        )
    return Store.create(place.text, saved, told.by)


def snapshot_of(store: Store) -> Snapshot:
    """Return the folder of the user's cache that follows a store, brought to its last version."""
    from horen.database.cache import folder_of  # noqa: PLC0415
    from horen.database.snapshot import Snapshot  # noqa: PLC0415

    snapshot = Snapshot(store, folder_of(store))
    with status("Following the store …"):
        snapshot.follow()
    return snapshot
