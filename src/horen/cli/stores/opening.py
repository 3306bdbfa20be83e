"""Reaching stores, and codebooks wherever they are; what is said of a folder imports no database's packages."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from horen.cli.flow.opening import open_editor
from horen.cli.options import Place
from horen.cli.terminal import status
from horen.errors import ConfigError

if TYPE_CHECKING:
    from horen.database import By, Store
    from horen.editor import Editor
    from horen.store.state import Saved


def by_whom(actor: str | None, reason: str | None) -> By:
    """Return who does something: as they say, or the user of this machine.

    Raises:
        ConfigError: for a blank name.
    """
    from horen.database import By  # noqa: PLC0415

    if actor is not None and not actor.strip():
        raise ConfigError("--by is empty: write who does this, or leave it out for the user of this machine.")
    return By(_user() if actor is None else actor, reason or "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # nobody has a name in a container that was given a number
        return "unknown"


@contextmanager
def opened(place: Place) -> Iterator[Store]:
    """Open a store for as long as the block lasts.

    Raises:
        ConfigError: when it is a codebook's folder.
        StoreError: when there is none, or it cannot be read.
    """
    from horen.database import Store  # noqa: PLC0415

    if not place.is_store:
        what = "a codebook's folder" if Path(place.text).is_dir() else "no store by its name"
        raise ConfigError(
            f"{place} is {what}, and this works on a store: name one (facts.db, postgresql://user@host/name); "
            "horen import DIR --into STORE makes one of a folder."
        )
    with Store.open(place.text) as store:
        yield store


def followed(store: Store) -> Path:
    """Return the folder of the user's cache that follows a store, brought to its last version.

    Raises:
        StoreError: when the store cannot be read, or the folder not be written.
    """
    from horen.database.cache import folder_of  # noqa: PLC0415
    from horen.database.snapshot import Snapshot  # noqa: PLC0415

    folder = folder_of(store)
    with status("Following the store …"):
        Snapshot(store, folder).follow()
    return folder


def folder_at(place: Place) -> Path:
    """Return the folder of a place: its own, or one that follows it.

    Raises:
        StoreError: when it is a store that cannot be read.
    """
    if not place.is_store:
        return Path(place.text)
    with opened(place) as store:
        return followed(store)


def open_place(
    place: Place,
    model: str | None,
    dtype: str,
    device: str | None,
    *,
    encoder: str | None = None,
    version: str | None = None,
) -> Editor:
    """Load the codebook of a folder or a store, and its model; see :func:`horen.cli.flow.opening.open_editor`.

    Args:
        place: where it is.
        model: the user's name for its model.
        dtype: of the weights.
        device: where to put the model.
        encoder: the user's name for its text encoder.
        version: what it was after so many changes, or at a tag of a store; None for now.

    Raises:
        ConfigError: when there is no such version.
    """
    if version is None:
        return open_editor(folder_at(place), model, dtype, device, encoder=encoder)
    from horen.store.state import Saved  # noqa: PLC0415

    if place.is_store:
        with opened(place) as store:
            number, folder = store.versions.number(version), followed(store)
    elif version.isascii() and version.isdigit():
        number, folder = int(version), Path(place.text)
    else:
        raise ConfigError(f"--version {version} is no number: versions of a folder have no other names.")
    saved = _as_of(Saved.read(folder), number, place)
    return open_editor(folder, model, dtype, device, saved=saved, encoder=encoder)


def _as_of(saved: Saved, number: int, place: Place) -> Saved:
    """Return a codebook as it was after so many operations; rows are only ever added, so the tables may stay."""
    from horen.store.history import History  # noqa: PLC0415

    operations = saved.history.operations
    if number > len(operations):
        raise ConfigError(f"There is no version {number} of {place}, which has {len(operations)}: see horen history.")
    if any(operation.dropped for operation in operations[number:]):
        raise ConfigError(
            f"Version {number} of {place} is gone, because a compaction has dropped its entries: name a later one."
        )
    return replace(saved, history=History.from_operations(operations[:number]))
