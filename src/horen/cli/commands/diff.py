"""The command that tells what makes one version of a store another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from horen.cli.options import AsJson, StorePlace
from horen.cli.stores.opening import opened
from horen.cli.stores.telling import as_dict
from horen.cli.terminal import clean, counted, emit, show

if TYPE_CHECKING:
    from horen.database.records import Difference, StoredEdit


def diff(
    store: StorePlace,
    before: Annotated[str, typer.Argument(metavar="A", help="Number or tag of a version.", show_default=False)],
    after: Annotated[
        str | None,
        typer.Argument(metavar="B", help="Number or tag of another one.  [default: the last]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what makes one version of a store another.

    A line with - is an edit that answered at A and not at B, one with + the other way round; under it stands who wrote
    it and why. An edit stands beside the one that it replaces.

    \b
    Examples:
      horen diff facts.db 3 7
      horen diff facts.db released
    """
    with opened(store) as database:
        versions = database.versions
        ends = versions.number(before), database.version if after is None else versions.number(after)
        found = versions.diff(*ends)
    if as_json:
        emit(as_dict(found))
        return
    names = (before, str(found.after) if after is None else after)
    one, other = (
        f"version {number}" + ("" if name.isdigit() else f" ({name})") for number, name in zip(ends, names, strict=True)
    )
    show(f"{one} to {other}: {counted(len(found.added), 'edit')} more, {len(found.removed)} fewer", style="bold")
    for sign, edit in _in_pairs(found):
        show(Text(f"{sign} {edit.id}  {clean(edit.prompt)} -> {clean(edit.target)}", style=_STYLES[sign]))
        why = f": {clean(edit.reason)}" if edit.reason else ""
        show(Text(f"     {clean(edit.author)}{why}", style="dim"))


_STYLES = {"+": "green", "-": "red"}


def _in_pairs(found: Difference) -> list[tuple[str, StoredEdit]]:
    """Return the lines in order of their ids, what was replaced right before what it was replaced by."""
    gone = {edit.id: edit for edit in found.removed}
    lines: list[tuple[str, StoredEdit]] = []
    for edit in found.added:
        lines += [("-", gone.pop(number)) for number in edit.replaces if number in gone]
        lines.append(("+", edit))
    return [*(("-", edit) for edit in gone.values()), *lines]
