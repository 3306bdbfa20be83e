"""The feed of a store's versions: who waits for the next one learns of it when it is committed."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select

from horen.database.changing import CHANNEL
from horen.database.connection import Database, address_of, file_of
from horen.database.schema import codebook
from horen.errors import StoreError
from horen.extras import need

# SQLite is asked so often whether its file has changed, which reads one number; in seconds.
_LOOK = 0.05
# So long a server's word is waited for before the version is read all the same.
_LISTEN = 1.0
# So long after a failure it is tried again.
_AGAIN = 0.5


class Feed:
    """Tells of new versions. It goes on through what breaks: a database that was gone is listened to once it is back.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = -1
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def wait(self, beyond: int, timeout: float) -> int:
        """Return the number of the last version as soon as it is not ``beyond``, or after so many seconds.

        It is less than ``beyond`` where the database is an older one by now: a backup that was put back.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="horen-feed", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._closed or self._version not in (-1, beyond), timeout)
            return beyond if self._version == -1 else self._version

    def close(self) -> None:
        """Stop listening; who waits is let go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2 * _LISTEN)

    def _run(self) -> None:
        follow = self._follow_file if self._database.embedded else self._listen
        while not self._closed:
            # Whatever happens here, whoever reads or writes the store is told of it there.
            with suppress(Exception):
                follow()
            time.sleep(0 if self._closed else _AGAIN)

    def _follow_file(self) -> None:
        path = Path(self._database.url.database or "")
        opened = file_of(path)
        with closing(sqlite3.connect(address_of(path), uri=True, isolation_level=None)) as connection:
            seen = None
            while not self._closed and file_of(path) == opened:
                found = connection.execute("PRAGMA data_version").fetchone()[0]
                if found != seen:
                    self._tell()
                    seen = found
                time.sleep(_LOOK)

    def _listen(self) -> None:
        connect: Callable[..., Any] = need("postgres", "psycopg", "A store in PostgreSQL needs").connect
        address = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with connect(address, autocommit=True, connect_timeout=5, application_name="horen feed") as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            while not self._closed:
                self._tell()
                for _ in connection.notifies(timeout=_LISTEN, stop_after=1):
                    break

    def _tell(self) -> None:
        with self._database.reading() as connection:
            version = connection.execute(select(codebook.c.version)).scalar()
        if version is None:
            raise StoreError(f"{self._database.name} holds no store.")
        with self._changed:
            if version != self._version:
                self._version = version
                self._changed.notify_all()
