"""Keys of the service: who may do what. A secret is told once; the store has its digest alone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from horen.database.audit import logged
from horen.database.checks import bounded, check_name
from horen.database.connection import Database
from horen.database.records import SCOPES, By, Key, Scope
from horen.database.schema import api_key
from horen.database.texts import now
from horen.errors import ConfigError, EditNotFoundError, StoreError

_BEGINS = "hk_"
# The use of a key is noted to the minute, so that asking does not write each time.
_MINUTE = 16


class Keys:
    """The keys of a store.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def any(self) -> bool:
        """Return whether a key was ever made.

        Raises:
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            return connection.execute(select(api_key.c.id).limit(1)).first() is not None

    def list(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones too, without their secrets.

        Raises:
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            return tuple(map(_key, connection.execute(select(api_key).order_by(api_key.c.id))))

    def find(self, secret: str) -> Key | None:
        """Return the key of a secret; None where it is none, is revoked, or has expired.

        What is looked up is a digest, so how long that takes tells nothing of a secret.

        Raises:
            StoreError: when the database cannot be read.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(api_key).where(api_key.c.digest == _digest(secret))).first()
        at = now()
        if row is None or row.revoked is not None or (row.expires is not None and row.expires <= at):
            return None
        if row.used is None or row.used[:_MINUTE] != at[:_MINUTE]:
            self._note_use(row.id, at[:_MINUTE])
        return _key(row)

    def _note_use(self, number: int, at: str) -> None:
        try:
            with self._database.writing() as connection:
                connection.execute(update(api_key).where(api_key.c.id == number).values(used=at))
        except StoreError:
            pass  # a store that cannot be written can still be asked

    def make(self, name: str, scopes: Iterable[Scope], by: By, *, expires: str | None = None) -> tuple[Key, str]:
        """Make a key, and return it with its secret.

        Args:
            name: who holds it.
            scopes: what may be done with it.
            by: who makes it, and why.
            expires: time from which it is not taken, ISO 8601; None for never.

        Raises:
            EditError: for a blank name.
            ConfigError: for a scope that is not known, or none, or a time that is none or has passed.
            StoreError: when the database cannot be written.
        """
        check_name(name, "name of a key")
        wanted = _checked(scopes)
        until = None if expires is None else _time(expires)
        with self._database.writing() as connection:
            return _made(connection, name, wanted, by, until, "key.make")

    def rotate(self, number: int, by: By) -> tuple[Key, str]:
        """Give the holder of a key a new secret; the old one is not taken any more.

        Raises:
            EditNotFoundError: when there is no such key, or it is revoked.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            row = _valid(connection, number)
            connection.execute(update(api_key).where(api_key.c.id == number).values(revoked=now()))
            return _made(connection, row.name, tuple(row.scopes), by, row.expires, "key.rotate", replaces=number)

    def revoke(self, number: int, by: By) -> Key:
        """Take a key no more.

        Raises:
            EditNotFoundError: when there is no such key, or it is revoked.
            StoreError: when the database cannot be written.
        """
        with self._database.writing() as connection:
            _valid(connection, number)
            connection.execute(update(api_key).where(api_key.c.id == number).values(revoked=now()))
            logged(connection, by, "key.revoke", f"key {number}")
            return _key(connection.execute(select(api_key).where(api_key.c.id == number)).one())


def _made(
    connection: Connection,
    name: str,
    scopes: tuple[Scope, ...],
    by: By,
    expires: str | None,
    action: str,
    *,
    replaces: int | None = None,
) -> tuple[Key, str]:
    secret = _BEGINS + secrets.token_urlsafe(32)
    values = {"name": name, "digest": _digest(secret), "scopes": list(scopes), "created": now(), "expires": expires}
    number = connection.execute(insert(api_key).values(**values).returning(api_key.c.id)).scalar_one()
    detail: dict[str, Any] = {"name": name, "scopes": list(scopes), "expires": expires, "replaces": replaces}
    logged(connection, by, action, f"key {number}", detail=detail)
    return _key(connection.execute(select(api_key).where(api_key.c.id == number)).one()), secret


def _valid(connection: Connection, number: int) -> Row[Any]:
    row = connection.execute(select(api_key).where(api_key.c.id == bounded(number))).first()
    if row is None or row.revoked is not None:
        state = "There is no key" if row is None else "Revoked already is key"
        raise EditNotFoundError(f"{state} {number}: list the keys to see which are valid.")
    return row


def _key(row: Row[Any]) -> Key:
    return Key(row.id, row.name, tuple(row.scopes), row.created, row.expires, row.revoked, row.used)


def _digest(secret: str) -> bytes:
    # A secret has 256 random bits, so nobody can try them all, and a slow digest would gain nothing.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _checked(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    given = set(scopes)
    unknown = sorted(str(scope) for scope in given if scope not in SCOPES)
    if unknown or not given:
        what = f"The scope {unknown[0]!r} is not known" if unknown else "No scope is given"
        raise ConfigError(f"{what}: use some of {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in given)


def _time(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"The time {text!r} is not ISO 8601 ({error}): write 2027-01-31T00:00:00+00:00.") from error
    if found.tzinfo is None:
        raise ConfigError(f"The time {text!r} names no time zone: write 2027-01-31T00:00:00+00:00.")
    at = found.astimezone(UTC).isoformat(timespec="milliseconds")
    if at <= now():
        raise ConfigError(f"The time {text!r} has passed: name a later one.")
    return at
