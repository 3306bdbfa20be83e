"""The store: one durable place for a codebook's edits, their history, and who may change them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Self

from sqlalchemy import func, select

from horen.database.address import url_of
from horen.database.audit import Audit
from horen.database.checking import check_whole
from horen.database.connection import Database, address_of
from horen.database.drafts import Drafts
from horen.database.edits import Edits
from horen.database.feed import Feed
from horen.database.keys import Keys
from horen.database.migrating import check_present, make_tables, migrate, present
from horen.database.records import About, By
from horen.database.schema import codebook, draft, edit
from horen.database.sets import Sets
from horen.database.taking_in import take_in
from horen.database.training import Training
from horen.database.versions import Versions
from horen.errors import StoreError
from horen.store.state import Saved


class Store:
    """A codebook in a database. Threads may share it, and any number of processes may open it at once.

    Args:
        database: that holds a store.

    Attributes:
        database: its connections.
        edits: published edits.
        drafts: proposed edits.
        training: drafts that wait for a trainer.
        versions: what changed when, and the way back.
        sets: named groups of edits.
        keys: who may do what.
        audit: who did what.
        feed: tells of new versions.

    Raises:
        StoreError: when the database cannot be read, or holds no store.
        MismatchError: when another release made it.
    """

    def __init__(self, database: Database) -> None:
        with database.reading() as connection:
            self._schema = check_present(database, connection)
            self.id: str = connection.execute(select(codebook.c.store)).scalar_one()
        self.database = database
        self.edits, self.drafts, self.training = Edits(database), Drafts(database), Training(database)
        self.versions, self.sets = Versions(database), Sets(database)
        self.keys, self.audit, self.feed = Keys(database), Audit(database), Feed(database)

    @classmethod
    def open(cls, address: str | os.PathLike[str]) -> Self:
        """Open a store.

        Args:
            address: the path of a SQLite file, or postgresql://user@host/name.

        Raises:
            StoreError: when there is none, or it cannot be read.
            MismatchError: when another release made it.
        """
        database = _database(address, must_exist=True)
        try:
            return cls(database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def create(cls, address: str | os.PathLike[str], saved: Saved, by: By) -> Self:
        """Make a store of a saved codebook: its edits, and its operations as versions.

        Args:
            address: see :meth:`open`; a file must not be there yet, a database must be empty.
            saved: the codebook; its folder stays as it is.
            by: who does it, and why.

        Raises:
            StoreError: when there is a store already, or it cannot be written.
            EditError: when a text cannot be stored.
        """
        database = _database(address, must_exist=False)
        path = Path(database.url.database or "") if database.embedded else None
        new = path is not None and not path.exists()
        try:
            # The tables come with what is in them, or not at all.
            with database.writing_schema() as connection:
                if present(connection) is not None:
                    raise StoreError(f"{database.name} holds a store already: name another place.")
                make_tables(connection)
                take_in(connection, saved, by)
            database.close()
            return cls.open(address)
        except BaseException:
            database.close()
            if new and path is not None:
                for name in (path.name, path.name + "-wal", path.name + "-shm"):
                    path.with_name(name).unlink(missing_ok=True)
            raise

    @classmethod
    def upgrade(cls, address: str | os.PathLike[str]) -> tuple[str, str]:
        """Bring the store of an older release up to date; return the names of its last migration before and after.

        Raises:
            StoreError: when there is none, or it cannot be written.
            MismatchError: when a newer release made it.
        """
        database = _database(address, must_exist=True)
        try:
            with database.reading() as connection:
                before = present(connection)
            if before is None:
                raise StoreError(f"{database.name} holds no store: make one with: horen import DIR --into STORE.")
            return before, migrate(database)
        finally:
            database.close()

    @property
    def version(self) -> int:
        """The number of the last version.

        Raises:
            StoreError: when the database cannot be read.
        """
        with self.database.reading() as connection:
            return int(connection.execute(select(codebook.c.version)).scalar_one())

    def about(self) -> About:
        """Return what the store is.

        Raises:
            StoreError: when the database cannot be read.
        """
        with self.database.reading() as connection:
            row = connection.execute(select(codebook)).one()
            active = connection.execute(select(func.count(edit.c.id)).where(edit.c.active)).scalar_one()
            drafts = connection.execute(select(draft.c.state, func.count()).group_by(draft.c.state)).all()
        model = row.config["model"]
        return About(
            id=row.store,
            address=self.database.name,
            version=row.version,
            active=active,
            edits=row.edits,
            drafts=dict(drafts),
            model=model["source"],
            revision=model.get("revision"),
            settings=row.config["settings"],
            schema=self._schema,
        )

    def check(self) -> None:
        """Read everything, and compare it with its seals and digests; it takes as long as reading the store does.

        Raises:
            StoreError: when something is not as it was written.
        """
        with self.database.reading() as connection:
            check_whole(self.database.name, connection)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy a store in a SQLite file to another file, as one version, while it is read and written.

        Raises:
            StoreError: when it is in PostgreSQL, whose own programs do this, or the copy cannot be written.
        """
        target = Path(path)
        if not self.database.embedded:
            raise StoreError(f"{self.database.name} is backed up by PostgreSQL's own programs: use pg_dump.")
        if target.exists():
            raise StoreError(f"{target} exists already: name another file.")
        staged = target.with_name(target.name + ".part")
        try:
            with (
                closing(sqlite3.connect(address_of(Path(self.database.url.database or "")), uri=True)) as source,
                closing(sqlite3.connect(staged)) as copy,
            ):
                source.backup(copy)
            staged.replace(target)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{target} cannot be written ({error}): choose another place.") from error
        finally:
            staged.unlink(missing_ok=True)

    def close(self) -> None:
        """Give back every connection; once more does nothing."""
        self.feed.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _database(address: str | os.PathLike[str], *, must_exist: bool) -> Database:
    url = url_of(address)
    if url.drivername == "sqlite":
        path = Path(url.database or "")
        if must_exist and not path.is_file():
            raise StoreError(
                f"There is no store {path}: check the path, or make one with: horen import DIR --into {path}."
            )
        if not path.parent.is_dir():
            raise StoreError(f"The folder {path.parent} does not exist: make it, or choose another place.")
    return Database(url, make=not must_exist)
