"""The command that brings the store of an older release up to date."""

from __future__ import annotations

from horen.cli.options import AsJson, StorePlace
from horen.cli.terminal import emit, show
from horen.errors import ConfigError


def upgrade(store: StorePlace, as_json: AsJson = False) -> None:
    """Bring the store of an older release up to date.

    Back it up first ("horen backup", pg_dump): the older release cannot read it any more. All of it is done or nothing.

    \b
    Example:
      horen upgrade facts.db
    """
    from horen.database import Store  # noqa: PLC0415

    if not store.is_store:
        raise ConfigError(f"{store} is no store: a codebook's folder needs no upgrade.")
    before, after = Store.upgrade(store.text)
    if as_json:
        emit({"store": str(store), "before": before, "after": after})
    elif before == after:
        show(f"{store} is up to date ({after}).")
    else:
        show(f"{store} was brought from {before} to {after}.")
