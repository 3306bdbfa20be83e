"""Connections to a store's database: transactions that see one version, and errors in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from horen.database.address import shown
from horen.database.schema import codebook
from horen.errors import EditError, MissingExtraError, StoreError

# How long a writer waits for another, in seconds.
_PATIENCE: Final = 30
_WRITES, _FILE = "horen_writes", "horen_file"


class Database:
    """A pool of connections.

    Args:
        url: of the database.
        make: whether a file that is not there is made.

    Attributes:
        url: of the database.
        name: what it is called in messages.

    Raises:
        StoreError: when the driver of the database is not installed.
    """

    def __init__(self, url: URL, *, make: bool = False) -> None:
        self.url, self.name = url, shown(url)
        self.embedded = url.drivername == "sqlite"
        self.engine = _embedded(url, make=make) if self.embedded else _served(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one version, whatever others write meanwhile.

        Raises:
            StoreError: when the database cannot be read.
        """
        with self.telling(), self.engine.connect() as connection:
            if not self.embedded:
                connection = connection.execution_options(  # noqa: PLW2901
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the one connection that writes, and commit what it did; nothing is written after an error.

        Raises:
            StoreError: when the database cannot be written.
        """
        with self.telling(), self.engine.connect() as connection:
            if self.embedded:
                connection = connection.execution_options(**{_WRITES: True})  # noqa: PLW2901
            with connection.begin():
                if not self.embedded:
                    connection.execute(select(codebook.c.version).with_for_update())
                yield connection

    @contextmanager
    def writing_schema(self) -> Iterator[Connection]:
        """Give the one connection that makes or changes tables, and commit what it did.

        Raises:
            StoreError: when the database cannot be written.
        """
        with self.telling(), self.engine.connect() as connection:
            if self.embedded:
                connection = connection.execution_options(**{_WRITES: True})  # noqa: PLW2901
            with connection.begin():
                if not self.embedded:
                    # Two who begin at once would both find no tables.
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7245903)")
                yield connection

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Raise StoreError for what the database's driver raises within the block.

        Raises:
            StoreError: when the database cannot do what it is asked.
            EditError: when it was asked for what no database can hold.
        """
        try:
            yield
        except SQLAlchemyError as error:
            if "NUL" in str(error) and isinstance(error, DataError):
                raise EditError("A text that is looked for holds a null character: leave it out.") from error
            raise StoreError(self._words(error)) from error
        except UnicodeEncodeError as error:
            raise EditError(
                f"A text that is looked for holds half a character at position {error.start}: write it anew."
            ) from error
        except OverflowError as error:
            raise EditError("A number that is looked for is larger than any that a store has.") from error
        except (JSONDecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.name} is damaged ({error}): restore it from a backup.") from error

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()

    def _words(self, error: SQLAlchemyError) -> str:
        cause = error.orig if isinstance(error, DBAPIError) else error
        text = " ".join(str(cause).split()) or type(cause).__name__
        for sign, words in _WORDS:
            if sign in text:
                return f"{self.name}: {words}"
        if isinstance(error, DBAPIError) and (error.connection_invalidated or _unreachable(error)):
            return (
                f"{self.name} cannot be reached ({text}): nothing was changed unless it said so before; start the "
                "database, or check the address, and try again."
            )
        return f"{self.name} does not do what it was asked ({text}): nothing was changed; see the database's own log."


_WORDS: Final = (
    ("database is locked", "another process is still writing to it; nothing was changed. Try again when it is done."),
    ("database or disk is full", "the disk is full; nothing was changed. Make room and try again."),
    ("No space left on device", "the disk is full; nothing was changed. Make room and try again."),
    ("readonly database", "it may only be read here; nothing was changed. Choose a place that this user may write to."),
    ("read-only transaction", "the database takes no changes now; nothing was changed. Ask its primary server."),
    ("unable to open database", "it cannot be opened; check that the folder is there and may be written to."),
    ("disk image is malformed", "the file is damaged; restore it from a backup."),
    ("file is not a database", "the file is damaged or no SQLite database; restore it from a backup."),
    ("disk I/O error", "the disk reports an error; nothing was changed. Check the disk, then try again."),
    ("no such table", "the file holds no store; make one with: horen import DIR --into STORE."),
    ("relation", "the database holds no store; make one with: horen import DIR --into STORE."),
    ("too many", "the database serves too many already; nothing was changed. Try again later."),
)


def _unreachable(error: DBAPIError) -> bool:
    return type(error.orig).__name__ in {"OperationalError", "InterfaceError", "AdminShutdown"}


def _served(url: URL) -> Engine:
    try:
        # A connection that the server has dropped meanwhile is noticed before it is used.
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20}
        return create_engine(url, connect_args={"connect_timeout": 5, "application_name": "horen"}, **options)
    except ImportError as error:
        raise MissingExtraError(
            f"The store {shown(url)} needs the package psycopg, which cannot be imported ({error}): "
            "pip install 'horen[postgres]'."
        ) from error


def _embedded(url: URL, *, make: bool) -> Engine:
    path = Path(url.database or "")

    def connect() -> sqlite3.Connection:
        # Python's driver would begin transactions by itself, and late.
        found = sqlite3.connect(
            address_of(path, make=make), uri=True, timeout=_PATIENCE, check_same_thread=False, isolation_level=None
        )
        found.execute("PRAGMA foreign_keys = ON")
        if _may_write(path):
            found.execute("PRAGMA journal_mode = WAL")
            # An acknowledged edit survives a power cut.
            found.execute("PRAGMA synchronous = FULL")
        return found

    engine = create_engine(url, creator=connect, poolclass=QueuePool, pool_size=10, max_overflow=40)

    @event.listens_for(engine, "connect")
    def connected(_: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        entry.info[_FILE] = file_of(path)

    @event.listens_for(engine, "checkout")
    def checked_out(_: sqlite3.Connection, entry: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        # A backup that was put in the place of the file is another file, which an open connection does not see.
        if entry.info[_FILE] != file_of(path):
            raise DisconnectionError("the file was replaced")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def address_of(path: Path, *, make: bool = False) -> str:
    """Return the address by which SQLite opens a file; one that has gone is not made anew unless that is wanted."""
    if _may_write(path):
        return f"{path.as_uri()}?mode={'rwc' if make else 'rw'}"
    # Where nobody can write there may be no file for what connections share; nor is there any need for it then.
    return f"{path.as_uri()}?mode=ro" + ("" if _shared(path) else "&immutable=1")


def file_of(path: Path) -> tuple[int, int, bool] | None:
    """Return what tells a file from another one of the same name, and how it is opened; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, _may_write(path) or _shared(path)


def _may_write(path: Path) -> bool:
    return not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _shared(path: Path) -> bool:
    return path.with_name(path.name + "-wal").exists()
