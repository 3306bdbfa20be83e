"""Bringing a store's tables to the form that this release knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from horen.database.connection import Database
from horen.errors import MismatchError, StoreError

_PLACE = Path(__file__).parent / "migrations"


def newest() -> str:
    """Return the name of the last migration that this release knows."""
    found = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert found is not None  # noqa: S101 - they come with the package
    return found


def present(connection: Connection) -> str | None:
    """Return the name of the last migration of a store; None where there are no tables of one."""
    return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database) -> str:
    """Make a store's tables, or bring them up to date, and return the name of the last migration.

    Raises:
        StoreError: when the database cannot be written.
        MismatchError: when a newer release made them.
    """
    with database.writing_schema() as connection:
        _check_known(database, present(connection))
        make_tables(connection)
    return newest()


def make_tables(connection: Connection) -> None:
    """Make a store's tables, or bring them up to date, within a transaction."""
    command.upgrade(_config(connection), "head")


def check_present(database: Database, connection: Connection) -> str:
    """Return the name of a store's last migration.

    Raises:
        StoreError: when there are no tables of a store.
        MismatchError: when a newer or an older release made them.
    """
    found = present(connection)
    if found is None:
        raise StoreError(f"{database.name} holds no store: make one with: horen import DIR --into STORE.")
    _check_known(database, found)
    if found != newest():
        raise MismatchError(
            f"{database.name} is a store of an older release (its last migration is {found}, and {newest()} is "
            "needed): back it up, then bring it up to date with: horen upgrade STORE."
        )
    return found


def _check_known(database: Database, found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}
    if found is not None and found not in known:
        raise MismatchError(
            f"{database.name} is a store of a newer release (its last migration is {found}). Upgrade with: "
            "pip install --upgrade horen"
        )


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_PLACE).replace("%", "%%"))
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = connection
    return config
