"""The command that makes one codebook of several: merge."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from horen.cli.flow.applying import Batches, apply, claimed
from horen.cli.flow.checking import Skipped, Sorted, Words, sort_by_history
from horen.cli.flow.opening import model_of, open_editor
from horen.cli.flow.outcomes import Outcome, document, left, summarise
from horen.cli.flow.receipts import receipts
from horen.cli.options import (
    AsJson,
    Batch,
    Conflict,
    Device,
    Dtype,
    EncoderPlace,
    ModelPlace,
    OnConflict,
    Place,
    WeightType,
)
from horen.cli.terminal import counted, emit, listed, say, status
from horen.editfiles.records import FileRecord
from horen.errors import ConflictError, DataError

if TYPE_CHECKING:
    from horen.editing.merge import Parts

MERGE_HELP = """Make one codebook of several that were trained apart.

Each PART is a codebook of the same model with the same settings. OUT, new or old, gets their active edits, the first
part's first, as if they had been written there one after another; values and keys are taken from the parts. An edit
that an earlier part holds word for word is left out. What is done is saved as it goes on: after Ctrl-C the same command
continues.

\b
Examples:
  horen merge one two three --into all
  horen merge theirs --into ours --on-conflict keep
"""


def merge(
    places: Annotated[
        list[Place],
        typer.Argument(metavar="PART", help="Folders of codebooks.", parser=Place, show_default=False),
    ],
    out: Annotated[
        Place,
        typer.Option(
            "--into", metavar="OUT", help="Folder of the codebook, new or old.", parser=Place, show_default=False
        ),
    ],
    on_conflict: Conflict = OnConflict.error,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    batch: Batch = 128,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Make one codebook of several; see MERGE_HELP."""
    from horen.editing.merge import Parts  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    into, *parts = [
        place.folder("write what a store holds into a file with horen export, and import that where it shall be")
        for place in (out, *places)
    ]
    started = time.monotonic()
    with claimed(into) as saved:
        read = Parts.read(parts, None if saved is None else saved.config)
        records, skipped = _settled(read, on_conflict)
        base = saved or Saved.read(parts[0])
        outcome = Outcome(model_of(base, model), receipts(), skipped)
        found = Sorted(records, outcome.receipts)
        if saved is not None:
            found = sort_by_history(records, saved.history, on_conflict, Words("edit", "the parts", read.place))
            outcome.receipts, outcome.stored = found.settled, len(saved.history)
        if found.pending:
            editor = open_editor(
                base.path, model, dtype.value, device, saved=base, empty=saved is None, encoder=encoder
            )
            with status("Taking what the parts hold …"):
                editor.take_values(*parts, keys=True)
            apply(Batches(into, on_conflict, batch, "Merging"), found.pending, editor, outcome)
    outcome.in_order()
    outcome.seconds = time.monotonic() - started
    if as_json:
        emit(document(outcome, {"parts": [str(part) for part in parts], "into": str(into)}, read.origin))
    else:
        summarise(into, outcome, "left out in favour of other parts")
    if outcome.interrupted:
        raise left(outcome)


def _settled(parts: Parts, on_conflict: OnConflict) -> tuple[list[FileRecord], list[Skipped]]:
    """Return the edits to write and those left out, numbered through all parts.

    Raises:
        ConflictError: when parts contradict each other and no way out was chosen; all are said before.
        DataError: when there are no edits.
    """
    found = parts.settle(on_conflict.value)
    if found.clashes:
        say("Edits of the parts that disagree:")
        listed([parts.told(clash) for clash in found.clashes])
        raise ConflictError(
            f"The parts contradict each other in {counted(len(found.clashes), 'place')}, so nothing was applied. Take "
            "the later edit each time with --on-conflict supersede, or the earlier one with --on-conflict keep."
        )
    if not found.kept:
        raise DataError(f"{', '.join(map(str, parts.paths))}: there are no active edits, so nothing was applied.")
    records = []
    for number in found.kept:
        edit = parts.edits[number]
        records.append(FileRecord(number, edit.prompt, edit.target, edit.rephrases))
    skipped = [Skipped(number, f"gives way to {parts.place(stays)}") for number, stays in found.dropped.items()]
    return records, skipped
