"""Commands that write edits: edit, import, supersede."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from horen.cli.options import (
    AsJson,
    Device,
    Dtype,
    EditId,
    Folder,
    ModelPlace,
    OnConflict,
    OnSimilar,
    Preset,
    WeightType,
    calibration_option,
    model_option,
    set_option,
)
from horen.cli.terminal import clean, counted, emit, interrupted, listed, say, short, show, status
from horen.cli.writing import Order, Outcome, write_file
from horen.errors import ConfigError

EDIT_HELP = """Write a file of edits into a codebook.

FILE holds one edit a line, each with a prompt, a target and perhaps rephrases: JSON Lines (.jsonl), a table with a
header row (.csv, .tsv; rephrases separated by |) or a JSON list (.json). All of it is checked before anything is
applied. What is done is saved as it goes on: after Ctrl-C the same command continues.

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
        str | None, model_option('For a new DIR: an embedded name ("horen models"), folder or hub id.')
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
    on_conflict: Annotated[
        OnConflict,
        typer.Option("--on-conflict", help="When edits of one prompt disagree: refuse, take the later or the earlier."),
    ] = OnConflict.error,
    on_similar: Annotated[
        OnSimilar,
        typer.Option(
            "--on-similar",
            help="When a line looks like a stored edit in other words but answers otherwise: write it without a word, "
            "write it and say so, replace the stored edit, or ask (on a terminal; elsewhere say so).",
        ),
    ] = OnSimilar.warn,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out lines that cannot be used.")] = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, metavar="N", help="Edits written as one operation; Ctrl-C loses no more.")
    ] = 128,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of edits; see EDIT_HELP."""
    order = Order(
        file,
        into,
        model,
        preset,
        parse_settings(settings or []),
        calibration,
        on_conflict,
        on_similar,
        skip_bad,
        batch,
        dtype.value,
        device,
    )
    outcome = write_file(order)
    if as_json:
        emit(_document(order, outcome))
    else:
        _summarise(order, outcome)
    if outcome.interrupted:
        raise interrupted(
            f"Interrupted: {len(outcome.receipts)} of {len(outcome.receipts) + outcome.remaining} edits are done and "
            "saved. The same command again continues."
            if outcome.receipts
            else "Interrupted: no edits were done. The same command starts again."
        )


def supersede(
    folder: Folder,
    number: EditId,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The new answer.", show_default=False)],
    rephrases: Annotated[
        list[str] | None,
        typer.Option("--rephrase", metavar="TEXT", help="New rephrase, may be repeated; without it the old ones stay."),
    ] = None,
    model: ModelPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Give the prompt of an edit another answer.

    \b
    Example:
      horen supersede facts 7 "Port Callen"
    """
    from horen.cli.opening import open_editor  # noqa: PLC0415
    from horen.saving import Saved  # noqa: PLC0415
    from horen.store import lock_folder  # noqa: PLC0415

    with lock_folder(folder, create=False):
        old = Saved.read(folder).history.get(number)  # an unknown id shows before the model is loaded
        editor = open_editor(folder, model, dtype.value, device)
        with status("Editing …"):
            receipt = editor.supersede(number, target, rephrases or None)
            editor.save(folder)
    if as_json:
        emit({"prompt": old.prompt, "target": target, **dataclasses.asdict(receipt)})
        return
    show(f"Edit {receipt.id} replaces edit {number}: {clean(old.prompt)} -> {clean(target)}")
    if not receipt.converged:
        say(f"It did not converge (loss {receipt.loss:.2f} after {receipt.steps} steps); ask to see if it holds.")


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Settings from the form name=value.

    Raises:
        ConfigError: when one has another form.
    """
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"--set {text} is not valid: write name=value, such as threshold=0.6.")
        if name == "preset":
            raise ConfigError(f"--set {text} is not valid: choose a preset with --preset.")
        try:
            settings[name] = json.loads(value.strip().lower())
        except ValueError:
            settings[name] = value.strip()
    return settings


def _counts(outcome: Outcome) -> dict[str, int]:
    receipts = [receipt for _, receipt in outcome.receipts]
    actions = Counter(receipt.action for receipt in receipts)
    written = [receipt for receipt in receipts if receipt.action in {"added", "superseded"}]
    return {
        "added": actions["added"],
        "superseded": actions["superseded"],
        "kept": actions["kept"],
        "unchanged": actions["unchanged"],
        "reused": sum(receipt.reused for receipt in written),
        "not_converged": sum(not receipt.converged for receipt in written),
        "skipped": len(outcome.skipped),
        "remaining": outcome.remaining,
    }


def _document(order: Order, outcome: Outcome) -> dict[str, Any]:
    return {
        "file": str(order.file),
        "into": str(order.folder),
        "model": outcome.model,
        "interrupted": outcome.interrupted,
        "counts": _counts(outcome),
        "operations": outcome.operations,
        "stored": outcome.stored,
        "seconds": round(outcome.seconds, 3),
        "receipts": [
            {"line": record.line, "prompt": record.prompt, "target": record.target, **dataclasses.asdict(receipt)}
            for record, receipt in outcome.receipts
        ],
        "skipped": [dataclasses.asdict(item) for item in outcome.skipped],
    }


def _summarise(order: Order, outcome: Outcome) -> None:
    counts = _counts(outcome)
    words = {
        "added": "new",
        "superseded": "in the place of stored edits",
        "kept": "left out, because a stored edit answers otherwise",
        "unchanged": "stored already",
        "skipped": "left out as lines of the file",
    }
    for name, meaning in words.items():
        if counts[name] or name == "added":
            show(f"{counts[name]:>6}  {meaning}")
    if counts["reused"]:
        show(f"{counts['reused']:>6}  of those written share the value of an earlier edit")
    show(f"{order.folder} holds {counted(outcome.stored, 'edit')}; this took {outcome.seconds:.1f} s.")
    if outcome.operations > 1:
        show(f"They were written in {outcome.operations} operations; horen undo takes back one of them.")
    weak = [
        f"edit {receipt.id}: {short(record.prompt)} -> {short(record.target, 30)} (loss {receipt.loss:.2f})"
        for record, receipt in outcome.receipts
        if not receipt.converged and receipt.action in {"added", "superseded"}
    ]
    if weak:
        say(f"{len(weak)} did not converge; ask to see if they hold:")
        listed(weak, 10)
