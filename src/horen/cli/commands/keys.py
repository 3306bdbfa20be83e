"""The command that makes keys of the service and takes them back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from horen.cli.options import AsJson, Author, Place, Reason, StorePlace
from horen.cli.stores.opening import by_whom, opened
from horen.cli.stores.telling import as_dict, when
from horen.cli.terminal import NUMBER, emit, say, show, show_list

if TYPE_CHECKING:
    from horen.database.records import Key, Scope

_SPAN = re.compile(r"(\d{1,5})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7, "y": 24 * 365}


class Action(StrEnum):
    """What is done to keys."""

    make = "make"
    rotate = "rotate"
    revoke = "revoke"


def keys(
    store: StorePlace,
    action: Annotated[
        Action | None, typer.Argument(metavar="ACTION", help="See above; without it they are listed.")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Who holds a new key; else the number of one.")
    ] = None,
    scopes: Annotated[
        str,
        typer.Option("--scopes", metavar="A,B", help="With make: some of ask, read, edit, publish and admin."),
    ] = "ask,read",
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="WHEN", help="With make: 12h, 30d, 8w, 1y or a time (ISO 8601).  [default: never]"
        ),
    ] = None,
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """List the keys of a store's service, or change them.

    Without any key the service answers this machine alone. A secret is shown once, when it is made: the store keeps a
    digest of it. What is done with a key is told in the audit log under its NAME.

    \b
      horen keys STORE                  list them, revoked ones too
      horen keys STORE make NAME        make one (--scopes, --expires)
      horen keys STORE rotate ID        a new secret in the place of its old one
      horen keys STORE revoke ID        be rid of one

    \b
      ask      ask the model
      read     see edits, drafts, versions
      edit     propose edits
      publish  publish, remove, undo
      admin    all, and keys

    \b
    Example:
      horen keys facts.db make ann --scopes ask,read,edit --expires 30d
    """
    if action is None:
        _list(store, as_json=as_json)
        return
    if name is None:
        what = "NAME" if action is Action.make else "ID"
        raise typer.BadParameter(f"write: horen keys STORE {action.value} {what}")
    if action is not Action.make and (expires is not None or not name.isascii() or not name.isdigit()):
        raise typer.BadParameter(f"write: horen keys STORE {action.value} ID, a number, without --expires")
    until = None if expires is None else end_of(expires)
    wanted = [cast("Scope", scope.strip()) for scope in scopes.split(",") if scope.strip()]
    with opened(store) as database:
        found, who, secret = database.keys, by_whom(by, reason), None
        if action is Action.make:
            key, secret = found.make(name, wanted, who, expires=until)
        elif action is Action.rotate:
            key, secret = found.rotate(int(name), who)
        else:
            key = found.revoke(int(name), who)
    if as_json:
        emit({"key": as_dict(key)} | ({} if secret is None else {"secret": secret}))
    elif secret is None:
        show(f"Key {key.id} of {key.name} is taken no more.")
    else:
        say(f"Key {key.id} of {key.name} ({', '.join(key.scopes)}){_until(key)}. Its secret, which is shown this once:")
        show(secret)


def _until(key: Key) -> str:
    return "" if key.expires is None else f" until {when(key.expires)} UTC"


def end_of(text: str, start: datetime | None = None) -> str:
    """Return the time at which a key expires: as it is, or so long after now.

    Args:
        text: such as 30d, or ISO 8601.
        start: in the place of now.
    """
    span = _SPAN.fullmatch(text.strip().lower())
    if span is None:
        return text
    return ((start or datetime.now(UTC)) + timedelta(hours=int(span[1]) * _HOURS[span[2]])).isoformat()


def _list(store: Place, *, as_json: bool) -> None:
    with opened(store) as database:
        found = database.keys.list()
    if as_json:
        emit([as_dict(key) for key in found])
        return
    if not found:
        show(f"{store} has no keys.")
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    headers = (("id", NUMBER), "name", "scopes", "made (UTC)", "expires", "last used", "note")
    rows = (
        (
            str(key.id),
            key.name,
            ", ".join(key.scopes),
            when(key.created),
            when(key.expires) or "never",
            when(key.used) or "never",
            "revoked" if key.revoked else "expired" if key.expires and key.expires <= now else "",
        )
        for key in found
    )
    show_list(headers, rows)
