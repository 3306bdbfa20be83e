"""Commands on a saved codebook that need no model: list, show, remove, undo, history, export."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from horen.cli.flow.staying import made_to_stay
from horen.cli.options import AnyPlace, AsJson, Author, EditId, Reason, State
from horen.cli.terminal import NUMBER, clean, counted, emit, ids_of, led_away, say, show, show_list
from horen.edits import EditRecord
from horen.errors import ConfigError, DataError


def as_dict(record: EditRecord) -> dict[str, Any]:
    """Return a stored edit for JSON, without the numbers of its codebook rows."""
    fields = dataclasses.asdict(record)
    return {name: value for name, value in fields.items() if name not in {"entries", "value"}}


def list_edits(
    place: AnyPlace,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="List no more than N.")] = None,
    after: Annotated[int, typer.Option("--after", min=0, metavar="ID", help="Begin after this edit.")] = 0,
    before: Annotated[
        int | None, typer.Option("--before", min=1, metavar="ID", help="In a store: begin before this edit.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="WORDS", help="In a store: those whose texts or subject have these words."),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="In a store: those with this tag.")] = None,
    set_name: Annotated[
        str | None, typer.Option("--set-name", metavar="NAME", help="In a store: those of this edit set.")
    ] = None,
    author: Annotated[
        str | None, typer.Option("--author", metavar="NAME", help="In a store: those that NAME proposed.")
    ] = None,
    state: Annotated[
        State | None, typer.Option("--state", help="In a store: which edits.  [default: published]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the active edits of a codebook, or edits of a store.

    Of a folder those come first that were written first, of a store the newest. Into a file or another program goes a
    line for each, whole and with tabs between its cells, after one that names them. With --limit it is a page of them,
    and it is said how many there are in all and how the next one is asked for.

    \b
    Examples:
      horen list facts
      horen list facts.db --search "larkspur cloud" --tag people
    """
    if place.is_store:
        from horen.cli.stores.listing import Search, list_stored  # noqa: PLC0415

        if after:
            raise ConfigError(f"{place} is listed from the newest edit on: say --before ID in the place of --after.")
        wanted = Search(search, tag, set_name, author, state or State.published, before, limit)
        list_stored(place, wanted, as_json=as_json)
        return
    only = {"--before": before, "--search": search, "--tag": tag, "--set-name": set_name}
    _list_folder(place.without(only | {"--author": author, "--state": state}), limit, after, as_json=as_json)


def _list_folder(folder: Path, limit: int | None, after: int, *, as_json: bool) -> None:
    from horen.store.recorded import Recorded  # noqa: PLC0415

    with made_to_stay():
        history = Recorded.read(folder).history
    active = history.active()
    start = bisect_right(active, after, key=lambda record: record.id)
    records = active[start : None if limit is None else start + limit]
    if as_json:
        emit([as_dict(record) for record in records])
        return
    asleep = history.asleep()
    if not records:
        show(f"{folder} holds no active edits{f' after {after}' if active else ''}.")
        if asleep:
            say(_asleep(folder, asleep))
        return
    headers = (("id", NUMBER), ("prompt", {"ratio": 3}), ("target", {"ratio": 2}), "note")
    told = [_listed(records, len(active)), *([_asleep(folder, asleep)] if asleep else [])]
    more = [f"--after {records[-1].id} lists more"] if records[-1] is not active[-1] else []
    show_list(headers, ((str(r.id), r.prompt, r.target, _note(r)) for r in records), "; ".join(told + more))
    if len(records) < len(active) and led_away():
        say("; ".join([told[0], *more]))


def show_edit(place: AnyPlace, number: EditId, as_json: AsJson = False) -> None:
    """Show everything that is stored about an active edit.

    Of a store about any edit: also who wrote it and why, its source, its tags, and which versions changed it.
    """
    if place.is_store:
        from horen.cli.stores.listing import show_stored  # noqa: PLC0415

        show_stored(place, number, as_json=as_json)
        return
    from horen.store.recorded import Recorded  # noqa: PLC0415

    with made_to_stay():
        saved, sizes = Recorded.read_with_sizes(Path(place.text))
    record = saved.history.get(number)
    size = sizes.of(record)
    if as_json:
        emit(as_dict(record) | {"bytes": size})
        return
    lines = [("edit", str(record.id)), ("prompt", record.prompt), ("target", record.target)]
    lines += [("rephrase", text) for text in record.rephrases]
    lines.append(("loss", f"{record.loss:.4f} after {record.steps} steps" + _unless(record.converged)))
    if record.reused:
        lines.append(("value", "shared with an earlier edit"))
    own = "" if record.reused else f", value {size['value']:,} ({saved.config.value_storage})"
    lines.append(("bytes", f"keys {size['keys']:,}{own}"))
    lines.append(("written", record.created))
    if record.replaces:
        lines.append(("replaces", ids_of(record.replaces)))
    for name, text in lines:
        show(f"{name:<9} {clean(text)}")


def remove(
    place: AnyPlace,
    numbers: Annotated[list[int], typer.Argument(metavar="ID", help="Numbers of the edits.", show_default=False)],
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Remove edits, all of them or none.

    The model then answers these prompts as if they had never been edited. "horen undo PLACE" brings them back.

    \b
    Examples:
      horen remove facts 7
      horen remove facts.db 7 9 --reason "the source was withdrawn"
    """
    if place.is_store:
        from horen.cli.stores.listing import remove_stored  # noqa: PLC0415

        remove_stored(place, numbers, by, reason, as_json=as_json)
        return
    from horen.store.state import remove_from_folder  # noqa: PLC0415

    records = remove_from_folder(place.without({"--by": by, "--reason": reason}), numbers)
    if as_json:
        emit({"removed": [as_dict(record) for record in records]})
        return
    for record in records:
        show(f"Removed edit {record.id}: {clean(record.prompt)} -> {clean(record.target)}")


def undo(
    place: AnyPlace,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, metavar="N", help="In a store: refuse where the last version is not N."),
    ] = None,
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Take back the last operation that has not been taken back.

    Operations are listed by "horen history PLACE"; in a store each is a version, and so is the undo. Others may change
    a store meanwhile: with --version no other than that one is taken back. A file of edits is written in several
    operations, one for each batch of "horen edit"; undo takes back one of them.
    """
    if place.is_store:
        from horen.cli.stores.listing import undo_stored  # noqa: PLC0415

        undo_stored(place, version, by, reason, as_json=as_json)
        return
    from horen.store.state import undo_in_folder  # noqa: PLC0415

    undone = undo_in_folder(place.without({"--version": version, "--by": by, "--reason": reason}))
    if as_json:
        emit(dataclasses.asdict(undone))
        return
    gone = f" {_edits(undone.removed)} gone." if undone.removed else ""
    back = f" {_edits(undone.restored)} back." if undone.restored else ""
    show(f"Took back the last operation ({undone.operation}).{gone}{back}")


def history(
    place: AnyPlace,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="List the last N alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every operation, oldest first, undone ones included.

    Of a store these are its versions: with who did it, why, and what it changed. Into a file or another program goes a
    line for each, as with "horen list".
    """
    if place.is_store:
        from horen.cli.stores.listing import history_of  # noqa: PLC0415

        history_of(place, limit, as_json=as_json)
        return
    _list_operations(Path(place.text), limit, as_json=as_json)


def _list_operations(folder: Path, limit: int | None, *, as_json: bool) -> None:
    from horen.store.recorded import Recorded  # noqa: PLC0415

    with made_to_stay():
        operations = Recorded.read(folder).history.operations
    undone = {operation.undoes: operation.sequence for operation in operations if operation.undoes is not None}
    operations = operations if limit is None else operations[-limit:]
    if as_json:
        emit(
            [
                {
                    "sequence": operation.sequence,
                    "operation": operation.name,
                    "at": operation.at,
                    "added": [as_dict(record) for record in operation.added],
                    "removed": list(operation.removed),
                    "undoes": operation.undoes,
                    "undone_by": undone.get(operation.sequence),
                    "dropped": list(operation.dropped),
                }
                for operation in operations
            ]
        )
        return
    if not operations:
        show(f"Nothing has been done in {folder} yet.")
        return
    rows = []
    for operation in operations:
        note = f"undoes {operation.undoes}" if operation.undoes is not None else ""
        if operation.sequence in undone:
            note = f"undone by {undone[operation.sequence]}"
        if operation.dropped:
            note = f"drops {ids_of(operation.dropped)}"
        added = ids_of([record.id for record in operation.added])
        rows.append(
            (str(operation.sequence), operation.at[:19], operation.name, added, ids_of(operation.removed), note)
        )
    headers = (("no.", NUMBER), "time (UTC)", "operation", ("added", {"ratio": 1}), ("removed", {"ratio": 1}), "note")
    show_list(headers, rows)


def export(
    place: AnyPlace,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="File to write: .jsonl, .csv or .tsv; of a store also a folder.", show_default=False
        ),
    ],
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="In a store: those with this tag.")] = None,
    set_name: Annotated[
        str | None, typer.Option("--set-name", metavar="NAME", help="In a store: those of this edit set.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the active edits into a file that "horen import" reads.

    The file holds prompts, targets and rephrases, so the edits can be written anew for another model; of a store also
    subjects, sources and tags. A name without an ending is a folder, of a store alone: the published edits with all
    that is said of them as text that Git shows line by line, and their trained rows beside it.

    \b
    Examples:
      horen export facts edits.jsonl
      horen export facts.db people.csv --tag people
      horen export facts.db reviewed
    """
    if place.is_store:
        from horen.cli.stores.exporting import export_stored  # noqa: PLC0415

        export_stored(place, file, tag, set_name, overwrite=overwrite, as_json=as_json)
        return
    from horen.editfiles.records import write_edits  # noqa: PLC0415
    from horen.store.recorded import Recorded  # noqa: PLC0415

    records = Recorded.read(place.without({"--tag": tag, "--set-name": set_name})).history.active()
    if file.is_file() and not overwrite:
        raise DataError(f"{file} exists already: choose another name, or replace it with --overwrite.")
    count = write_edits(file, records, overwrite=overwrite)
    if as_json:
        emit({"file": str(file), "edits": count})
        return
    show(f"Wrote {counted(count, 'edit')} to {file}.")


def _listed(records: Sequence[EditRecord], all_of_them: int) -> str:
    counted_all = counted(all_of_them, "active edit")
    return counted_all if len(records) == all_of_them else f"{len(records)} of {counted_all}"


def _asleep(folder: Path, number: int) -> str:
    return f"{number} asleep, superseded, removed or undone (horen history {folder})"


def _note(record: EditRecord) -> str:
    notes = [counted(len(record.rephrases), "rephrase")] if record.rephrases else []
    if not record.converged:
        notes.append(f"not converged ({record.loss:.2f})")
    return ", ".join(notes)


def _unless(converged: bool) -> str:
    return "" if converged else ", not converged"


def _edits(numbers: Sequence[int]) -> str:
    return f"Edit {numbers[0]} is" if len(numbers) == 1 else f"Edits {ids_of(numbers)} are"
