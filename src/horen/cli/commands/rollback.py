"""The command that takes a store to an earlier version."""

from __future__ import annotations

from typing import Annotated

import typer

from horen.cli.options import AsJson, Author, Reason, StorePlace
from horen.cli.stores.opening import by_whom, opened
from horen.cli.stores.telling import as_dict, version_line
from horen.cli.terminal import emit, show


def rollback(
    store: StorePlace,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number or its tag.", show_default=False)],
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier version of a store.

    What was active then is active again, with the sets, tags and subjects of then. It is a new version, so nothing is
    lost: "horen undo STORE" takes it back. "horen diff STORE VERSION" shows beforehand what will change. Drafts stay.

    \b
    Example:
      horen rollback facts.db released --reason "wrong names since Monday"
    """
    with opened(store) as database:
        made = database.versions.rollback(database.versions.number(version), by_whom(by, reason))
    if as_json:
        emit({"version": as_dict(made)})
        return
    show(f"{store} is at {version_line(made)}.")
