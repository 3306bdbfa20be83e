"""The command that drops what edits that are not active have in a codebook: compact."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from horen.cli.options import AsJson, Folder
from horen.cli.terminal import counted, emit, ids_of, show


def compact(
    place: Folder,
    above: Annotated[
        float, typer.Option(metavar="SHARE", help="Do nothing unless more than this share of the entries is asleep.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Drop keys and values of edits that are not active, for good.

    Superseded, removed and undone edits sleep in the codebook until an undo wakes them. Without them look-ups, memory
    and disk are in proportion to the active edits, which answer as before and keep their ids.

    No operation so far can be undone from then on. "horen history DIR" lists them still, with the texts of all edits
    as --json. The folder is replaced as a whole, or left as it was. "horen doctor DIR" says how much is asleep. With
    --above 0.5, say, the command may follow every change: it waits until half of the entries are asleep.
    """
    from horen.editing.compact import compact_folder  # noqa: PLC0415

    folder = place.folder(
        f"of a store every version is kept (horen follow {place} NEW --once writes a folder, which follows no more "
        "once it is compacted)"
    )
    done = compact_folder(folder, above)
    if as_json:
        emit(dataclasses.asdict(done))
        return
    if not done.edits:
        few = f"no more than {above:.0%} of the entries are asleep" if above else "all edits with entries are active"
        show(f"{folder}: {few}, so nothing was changed.")
        return
    entries = f"{done.entries:,} {'entry' if done.entries == 1 else 'entries'}"
    show(
        f"{folder}: dropped {entries} and {counted(done.values, 'value')} of {counted(len(done.edits), 'edit')} "
        f"({ids_of(done.edits)}), {done.freed:,} bytes. What came before can no longer be undone."
    )
