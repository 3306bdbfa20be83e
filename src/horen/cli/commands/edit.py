"""Commands that write edits: edit, import, supersede."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from horen.cli.flow.checking import read_file
from horen.cli.flow.outcomes import document, left, summarise
from horen.cli.flow.writing import Order, write_file
from horen.cli.options import (
    AsJson,
    Batch,
    Conflict,
    Device,
    Devices,
    Dtype,
    EditId,
    EncoderPlace,
    Folder,
    ModelPlace,
    OnConflict,
    OnSimilar,
    Preset,
    RayAddress,
    Similarity,
    WeightType,
    Workers,
    calibration_option,
    model_option,
    parse_settings,
    set_option,
)
from horen.cli.terminal import clean, counted, emit, say, show, status
from horen.editfiles.records import unit_of

_PREVIEWED = 5

EDIT_HELP = """Write a file of edits into a codebook.

FILE holds one edit a line, each with a prompt, a target and perhaps rephrases: JSON Lines, a JSON list or objects over
several lines (.jsonl, .json), or a table with a header row (.csv, .tsv; rephrases separated by |). The field names of
ROME, CounterFact, EasyEdit, KnowEdit and MEND are known too, {} in a prompt stands for the subject, and a field that is
not known is refused; --dry-run shows what is read. All of it is checked before anything is applied. What is done is
saved as it goes on: after Ctrl-C the same command continues. With --workers and --ray the codebook is the same; until
it is written, what the workers have done is kept in a hidden folder beside DIR.

An edit of words that are stored with another target is a conflict (--on-conflict). One that says the same in other
words is found by how near the model reads it to what was stored before (--on-similar); lines of one file never replace
each other that way.

\b
Examples:
  horen edit facts.jsonl --into facts --model smollm2-135m-instruct
  horen edit more.csv --into facts --on-conflict supersede --on-similar ask
"""

IMPORT_HELP = """Write an exported file of edits into a codebook.

The codebook may be one of another model. This is "horen edit" under another name, with the same options.

\b
Example:
  horen export facts facts.jsonl
  horen import facts.jsonl --into copy --model gemma-3-270m
"""


def edit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of edits.", show_default=False)],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="Folder of the codebook, new or old.", show_default=False)
    ],
    model: Annotated[
        str | None, model_option('For a new DIR: an embedded name ("horen models"), folder, GGUF file or hub id.')
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option("--preset", help="For a new DIR: the settings to start from.  [default: default]")
    ] = None,
    settings: Annotated[list[str] | None, set_option("For a new DIR: change a setting; may be repeated.")] = None,
    calibration: Annotated[
        str | None,
        calibration_option(
            'For a new DIR: how its model is read, a folder of "horen calibrate" or an embedded model\'s name.'
        ),
    ] = None,
    encoder: EncoderPlace = None,
    on_conflict: Conflict = OnConflict.error,
    on_similar: Similarity = OnSimilar.warn,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out lines that cannot be used.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the fields are taken for and the first five edits; write none.")
    ] = False,
    batch: Batch = 128,
    workers: Workers = None,
    ray: RayAddress = None,
    dtype: WeightType = Dtype.auto,
    device: Devices = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of edits; see EDIT_HELP."""
    if dry_run:
        _preview(file, on_conflict, skip_bad=skip_bad, as_json=as_json)
        return
    devices = tuple(name.strip() for name in device.split(",") if name.strip()) if device else ()
    order = Order(
        file,
        into,
        model,
        preset,
        parse_settings(settings or []),
        calibration,
        encoder,
        on_conflict,
        on_similar,
        skip_bad,
        batch,
        dtype.value,
        devices,
        workers,
        ray,
    )
    outcome = write_file(order)
    if as_json:
        emit(document(outcome, {"file": str(file), "into": str(into)}))
    else:
        summarise(into, outcome, "left out as lines of the file")
    if outcome.interrupted:
        raise left(outcome)


def _preview(file: Path, on_conflict: OnConflict, *, skip_bad: bool, as_json: bool) -> None:
    """Show what would be read of a file; no model is loaded."""
    records, skipped = read_file(file, on_conflict, skip_bad=skip_bad)
    first = records[:_PREVIEWED]
    if as_json:
        edits = [dataclasses.asdict(record) for record in first]
        emit({"file": str(file), "edits": edits, "count": len(records), "skipped": len(skipped)})
        return
    for record in first:
        show(f"{unit_of(file)} {record.line}: {clean(record.prompt)} -> {clean(record.target)}")
        for text in record.rephrases:
            show(f"  also: {clean(text)}")
    more = len(records) - len(first)
    show(f"{counted(len(records), 'edit')}{f', {more} of them not shown' if more else ''}; nothing was written.")


def supersede(
    folder: Folder,
    number: EditId,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The new answer.", show_default=False)],
    rephrases: Annotated[
        list[str] | None,
        typer.Option("--rephrase", metavar="TEXT", help="New rephrase, may be repeated; without it the old ones stay."),
    ] = None,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Give the prompt of an edit another answer.

    \b
    Example:
      horen supersede facts 7 "Port Callen"
    """
    from horen.cli.flow.opening import open_editor  # noqa: PLC0415
    from horen.store import lock_folder  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    with lock_folder(folder, create=False):
        old = Saved.read(folder).history.get(number)  # an unknown id shows before the model is loaded
        editor = open_editor(folder, model, dtype.value, device, encoder=encoder)
        with status("Editing …"):
            receipt = editor.supersede(number, target, rephrases or None)
            editor.save(folder)
    if as_json:
        emit({"prompt": old.prompt, "target": target, **dataclasses.asdict(receipt)})
        return
    show(f"Edit {receipt.id} replaces edit {number}: {clean(old.prompt)} -> {clean(target)}")
    if not receipt.converged:
        say(f"It did not converge (loss {receipt.loss:.2f} after {receipt.steps} steps); ask to see if it holds.")
