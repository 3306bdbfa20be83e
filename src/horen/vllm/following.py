"""An engine on a store: the folder that its processes read follows the database while it serves."""

from __future__ import annotations

import atexit
import logging
import threading
from pathlib import Path

from horen.store.places import is_store, without_passwords

_log = logging.getLogger(__name__)
# The addresses of stores by the folders that follow them; they may have passwords in them, so vLLM is told the folder.
_STORES: dict[str, str] = {}
_FOLLOWED: set[str] = set()
_STARTING = threading.Lock()


def folder_of(place: str) -> str:
    """Return a codebook's folder: what is named, or where a store is one that follows it, brought up to date.

    Raises:
        StoreError: when the store cannot be read, or the folder not be written.
        MissingExtraError: when a package that stores need is not installed.
    """
    if not is_store(place):
        return place
    from horen.database.cache import folder_of as cached  # noqa: PLC0415
    from horen.database.snapshot import Snapshot  # noqa: PLC0415
    from horen.database.store import Store  # noqa: PLC0415

    with Store.open(place) as store:
        folder = cached(store)
        Snapshot(store, folder).follow()
    _STORES[str(folder.resolve())] = place
    return str(folder)


def begin(folder: str) -> None:
    """Keep a folder in step with its store, in a thread of this process; nothing where it follows none."""
    with _STARTING:
        place = _STORES.get(folder)
        if place is None or folder in _FOLLOWED:
            return
        _FOLLOWED.add(folder)
    over = threading.Event()
    atexit.register(over.set)
    threading.Thread(target=_keep, args=(place, Path(folder), over), name="horen-follow", daemon=True).start()


def _keep(place: str, folder: Path, over: threading.Event) -> None:
    from horen.database.snapshot import Snapshot  # noqa: PLC0415
    from horen.database.store import Store  # noqa: PLC0415

    with Store.open(place) as store:
        _log.info("%s follows %s.", folder, without_passwords(place))
        Snapshot(store, folder).keep(lambda version: _log.info("The store is at version %d.", version), over.is_set)
