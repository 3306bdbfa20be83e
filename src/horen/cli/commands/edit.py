"""Commands that write edits: edit, import, supersede."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horen.cli.flow.checking import read_file
from horen.cli.flow.outcomes import document, left, summarise
from horen.cli.flow.writing import Order, write_file
from horen.cli.options import (
    AnyPlace,
    AsJson,
    Author,
    Batch,
    Conflict,
    Device,
    Devices,
    Dtype,
    EditId,
    EncoderPlace,
    IntoSet,
    ModelPlace,
    OnConflict,
    OnSimilar,
    Place,
    Preset,
    RayAddress,
    Reason,
    Similarity,
    Source,
    Subject,
    Tags,
    WeightType,
    Workers,
    calibration_option,
    model_option,
    parse_settings,
    set_option,
)
from horen.cli.stores.exchanging import Wish, is_export, take_export
from horen.cli.stores.importing import write_stored
from horen.cli.stores.making import take_folder
from horen.cli.stores.superseding import supersede_stored
from horen.cli.stores.told import Told
from horen.cli.terminal import clean, counted, emit, say, show, status
from horen.editfiles.records import FileRecord, unit_of
from horen.edits import EditRecord, Receipt
from horen.errors import ConfigError

if TYPE_CHECKING:
    from horen.database.records import StoredEdit

_PREVIEWED = 5
# So many fields of a line are for a codebook's folder; those behind them are for stores.
_OF_FOLDERS = 4
#: Model, type, device and text encoder as the user names them.
Loading = tuple[str | None, str, str | None, str | None]

EDIT_HELP = """Write a file of edits into a codebook or a store.

FILE holds one edit a line, each with a prompt, a target and perhaps rephrases: JSON Lines, a JSON list or objects over
several lines (.jsonl, .json), or a table with a header row (.csv, .tsv; rephrases separated by |). The field names of
ROME, CounterFact, EasyEdit, KnowEdit and MEND are known too, {} in a prompt stands for the subject, and a field that is
not known is refused; --dry-run shows what is read. All of it is checked before anything is applied. What is done is
saved as it goes on: after Ctrl-C the same command continues. With --workers and --ray the codebook is the same; until
it is written, what the workers have done is kept in a hidden folder beside DIR.

An edit of words that are stored with another target is a conflict (--on-conflict). One that says the same in other
words is found by how near the model reads it to what was stored before (--on-similar); lines of one file never replace
each other that way.

Into a store, subject, source and tags of a line go too, and each batch is published as one version; a contradiction
that somebody publishes meanwhile is a conflict as well.

\b
Examples:
  horen edit facts.jsonl --into facts --model smollm2-135m-instruct
  horen edit more.csv --into facts --on-conflict supersede --on-similar ask
  horen edit more.csv --into facts.db --tags people --reason "the new board"
"""

IMPORT_HELP = """Write exported edits into a codebook or a store.

The codebook may be one of another model. This is "horen edit" under another name, with the same options. Where FILE is
a codebook's folder and PLACE a store that is not there yet, the store holds the same edits, history and values. Where
FILE is a folder that was exported of a store, its edits go into PLACE as they were trained, and lines that somebody has
written into its edits.jsonl are trained.

\b
Examples:
  horen export facts facts.jsonl
  horen import facts.jsonl --into copy --model gemma-3-270m
  horen import facts --into facts.db
  horen import reviewed --into facts.db
"""


EditsFile = Annotated[Path, typer.Argument(metavar="FILE", help="File of edits.", show_default=False)]
Into = Annotated[
    Place,
    typer.Option(
        "--into",
        metavar="PLACE",
        help="Folder of the codebook, new or old, or a store: facts.db or postgresql://user@host/name.",
        parser=Place,
        show_default=False,
    ),
]
NewModel = Annotated[
    str | None, model_option('For a new PLACE: an embedded name ("horen models"), folder, GGUF file or hub id.')
]
NewPreset = Annotated[
    Preset | None, typer.Option("--preset", help="For a new PLACE: the settings to start from.  [default: default]")
]
NewSettings = Annotated[list[str] | None, set_option("For a new PLACE: change a setting; may be repeated.")]
NewCalibration = Annotated[
    str | None,
    calibration_option(
        'For a new PLACE: how its model is read, a folder of "horen calibrate" or an embedded model\'s name.'
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out lines that cannot be used.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what the fields are taken for and the first five edits; write none.")
]


def edit(
    file: EditsFile,
    into: Into,
    model: NewModel = None,
    preset: NewPreset = None,
    settings: NewSettings = None,
    calibration: NewCalibration = None,
    encoder: EncoderPlace = None,
    on_conflict: Conflict = OnConflict.error,
    on_similar: Similarity = OnSimilar.warn,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    batch: Batch = 128,
    tags: Tags = None,
    edit_set: IntoSet = None,
    source: Source = None,
    subject: Subject = None,
    by: Author = None,
    reason: Reason = None,
    workers: Workers = None,
    ray: RayAddress = None,
    dtype: WeightType = Dtype.auto,
    device: Devices = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of edits; see EDIT_HELP."""
    told = Told.of(by, reason, tags, edit_set, source, subject)
    if not into.is_store:
        into.without(told.options)
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
    if dry_run:
        _preview(order, as_json=as_json)
    elif into.is_store and file.is_dir():
        _take_folder(order, told, as_json=as_json)
    else:
        _write(order, told, as_json=as_json)


def _write(order: Order, told: Told, *, as_json: bool) -> None:
    outcome = write_stored(order, told) if order.into.is_store else write_file(order)
    if as_json:
        emit(document(outcome, {"file": str(order.file), "into": str(order.into)}))
    else:
        summarise(order.into, outcome, "left out as lines of the file")
    if outcome.interrupted:
        raise left(outcome)


def _take_folder(order: Order, told: Told, *, as_json: bool) -> None:
    """Make a store of a codebook's folder, or take one into a store that was exported of one."""
    exported = is_export(order.file)
    given: dict[str, object] = {"--preset": order.preset, "--set": order.settings, "--calibration": order.calibration}
    given |= {name: value for name, value in told.options.items() if name not in {"--by", "--reason"}}
    for name, value in (given if exported else {"--model": order.model, **given}).items():
        if value:
            what = "an export of a store" if exported else "a codebook's folder"
            raise ConfigError(f"{order.file} is {what}, which is taken in as it is: leave {name} out.")
    if exported:
        loading = (order.model, order.dtype, order.device, order.encoder)
        take_export(Wish(order.file, order.into, order.on_conflict, told, loading), as_json=as_json)
        return
    with take_folder(order.file, order.into, told) as store:
        about = store.about()
    if as_json:
        found = {"version": about.version, "active": about.active, "edits": about.edits}
        emit({"folder": str(order.file), "into": str(order.into), **found})
        return
    show(f"{order.into} is a store of {order.file}: version {about.version}, {counted(about.active, 'active edit')}.")


def _preview(order: Order, *, as_json: bool) -> None:
    """Show what would be read of a file; no model is loaded."""
    file, stored = order.file, order.into.is_store
    records, skipped = read_file(file, order.on_conflict, skip_bad=order.skip_bad, stored=stored)
    first = records[:_PREVIEWED]
    if as_json:
        names = [field.name for field in dataclasses.fields(FileRecord)][: None if stored else _OF_FOLDERS]
        edits = [{name: getattr(record, name) for name in names} for record in first]
        emit({"file": str(file), "edits": edits, "count": len(records), "skipped": len(skipped)})
        return
    for record in first:
        show(f"{unit_of(file)} {record.line}: {clean(record.prompt)} -> {clean(record.target)}")
        for text in record.rephrases:
            show(f"  also: {clean(text)}")
        facts = (("about", record.subject), ("from", record.source), ("tags", ", ".join(record.tags)))
        for name, said in facts if stored else ():
            if said:
                show(f"  {name}: {clean(said)}")
    more = len(records) - len(first)
    show(f"{counted(len(records), 'edit')}{f', {more} of them not shown' if more else ''}; nothing was written.")


def supersede(
    place: AnyPlace,
    number: EditId,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The new answer.", show_default=False)],
    rephrases: Annotated[
        list[str] | None,
        typer.Option("--rephrase", metavar="TEXT", help="New rephrase, may be repeated; without it the old ones stay."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="In a store: where the new answer is from.")
    ] = None,
    by: Author = None,
    reason: Reason = None,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Give the prompt of an edit another answer.

    In a store its subject, tags and set stay, and its source unless there is a new one.

    \b
    Examples:
      horen supersede facts 7 "Port Callen"
      horen supersede facts.db 7 "Port Callen" --source https://example.org/moved
    """
    told = Told.of(by, reason, source=source)
    old: EditRecord | StoredEdit
    if place.is_store:
        loading = (model, dtype.value, device, encoder)
        old, receipt = supersede_stored(place, number, target, tuple(rephrases or ()), told, loading)
    else:
        place.without(told.options)
        old, receipt = _in_folder(place, number, target, rephrases or None, (model, dtype.value, device, encoder))
    if as_json:
        emit({"prompt": old.prompt, "target": target, **dataclasses.asdict(receipt)})
        return
    show(f"Edit {receipt.id} replaces edit {number}: {clean(old.prompt)} -> {clean(target)}")
    if not receipt.converged:
        say(f"It did not converge (loss {receipt.loss:.2f} after {receipt.steps} steps); ask to see if it holds.")


def _in_folder(
    place: Place, number: int, target: str, rephrases: list[str] | None, loading: Loading
) -> tuple[EditRecord, Receipt]:
    """Return an edit of a folder that another one has replaced, and what became of that."""
    from horen.cli.flow.opening import open_editor  # noqa: PLC0415
    from horen.store import lock_folder  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    folder, (model, dtype, device, encoder) = Path(place.text), loading
    with lock_folder(folder, create=False):
        old = Saved.read(folder).history.get(number)  # an unknown id shows before the model is loaded
        editor = open_editor(folder, model, dtype, device, encoder=encoder)
        with status("Editing …"):
            receipt = editor.supersede(number, target, rephrases)
            editor.save(folder)
    return old, receipt
