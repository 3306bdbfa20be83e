"""The command that keeps a folder in step with a store."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from horen.cli.options import AsJson, StorePlace
from horen.cli.stores.opening import opened
from horen.cli.terminal import emit, say, show


def follow(
    store: StorePlace,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that follows it, new or old.", show_default=False)
    ],
    once: Annotated[bool, typer.Option("--once", help="Bring it to the last version, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a folder in step with a store.

    Until Ctrl-C or SIGTERM it says each version that DIR comes to. DIR is a codebook's folder like any other, which
    engines open and read anew when it changes; each state of it is one version of the store, whole. What is changed
    there by others is refused, not overwritten. While the database is away DIR stays as it is, and goes on when it is
    back. With --json each version is one JSON document on a line.

    \b
    Examples:
      horen follow postgresql://horen@db/facts /srv/facts
      horen follow facts.db facts --once
    """
    from horen.database.snapshot import Snapshot  # noqa: PLC0415

    def told(version: int) -> None:
        if as_json:
            emit({"folder": str(folder), "version": version}, indent=None)
        else:
            show(f"{folder} is at version {version}.")

    with opened(store) as database:
        snapshot = Snapshot(database, folder)
        # What is wrong from the beginning is an error; what breaks later is waited for.
        version = snapshot.follow()
        if once:
            told(version)
            return
        with _ended() as over, _warnings():
            snapshot.keep(told, over.is_set)


@contextmanager
def _ended() -> Iterator[threading.Event]:
    """Give what is set by Ctrl-C or SIGTERM while the block lasts."""
    over = threading.Event()

    def end(*_: object) -> None:
        over.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _warnings() -> Iterator[None]:
    """Say what the folder's keeper warns of, once as long as it stays the same."""
    handler, logger = _Said(), logging.getLogger("horen.database")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Say a warning."""
        message = record.getMessage()
        if message != self._last:
            self._last = message
            say(message)
