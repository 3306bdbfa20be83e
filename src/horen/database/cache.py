"""Where snapshots of stores lie for whoever names no folder for them."""

from __future__ import annotations

from pathlib import Path

from horen.database.store import Store
from horen.model.zoo.cache import cache_dir


def folder_of(store: Store) -> Path:
    """Return the folder in the user's cache that follows a store; all programs of a user share it.

    Raises:
        MissingExtraError: when the package that knows the user's cache folder is needed and not installed.
    """
    return cache_dir() / "snapshots" / store.id
