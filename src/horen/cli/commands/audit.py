"""The command that lists who did what in a store."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from horen.cli.options import AsJson, Limit, StorePlace
from horen.cli.stores.opening import opened
from horen.cli.stores.telling import as_dict, first, when
from horen.cli.terminal import NUMBER, emit, led_away, say, show, show_list


def audit(
    store: StorePlace,
    actor: Annotated[str | None, typer.Option("--actor", metavar="NAME", help="What NAME did alone.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="NAME", help="One kind of deed alone, such as draft.publish.")
    ] = None,
    limit: Limit = 50,
    before: Annotated[int | None, typer.Option("--before", min=1, metavar="ID", help="Begin before this line.")] = None,
    as_json: AsJson = False,
) -> None:
    """List who did what in a store, when and why, the latest first.

    Each change and each use of a right that changes something has a line, also what made no version: keys, tags,
    drafts, evaluations. Lines are only ever added.

    \b
    Examples:
      horen audit facts.db --limit 20
      horen audit facts.db --actor ann --action draft.publish --json
    """
    with opened(store) as database:
        events, rest = first(
            lambda at, most: database.audit.list(before=at, limit=most, actor=actor, action=action), before, limit
        )
    if as_json:
        emit([as_dict(event) for event in events])
        return
    if not events:
        show(f"The audit log of {store} has no such line.")
        return
    more = f"--before {events[-1].id} lists more" if rest else ""
    headers = (
        ("no.", NUMBER),
        "time (UTC)",
        "who",
        "action",
        ("object", {"ratio": 2}),
        ("version", NUMBER),
        ("why", {"ratio": 2}),
        ("detail", {"ratio": 1}),
    )
    rows = (
        (
            str(event.id),
            when(event.at),
            event.by.actor,
            event.action,
            event.object,
            "" if event.version is None else str(event.version),
            event.by.reason,
            json.dumps(dict(event.detail), ensure_ascii=False) if event.detail else "",
        )
        for event in events
    )
    show_list(headers, rows, more)
    if more and led_away():
        say(more)
