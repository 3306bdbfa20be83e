"""Writing what a store holds into a file of edits, or into a folder of plain text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from horen.cli.options import Place
from horen.cli.stores.opening import opened
from horen.cli.stores.telling import pages
from horen.cli.terminal import counted, emit, show
from horen.editfiles.records import FileRecord, write_edits
from horen.errors import DataError

if TYPE_CHECKING:
    from horen.database import Query, Store


def export_stored(
    place: Place, file: Path, tag: str | None, set_name: str | None, *, overwrite: bool, as_json: bool
) -> None:
    """Write edits of a store, the oldest first: the active ones into a file, the published ones into a plain folder."""
    from horen.database import Query  # noqa: PLC0415

    query = Query(state="published", tag=tag, set=set_name)
    plain = file.is_dir() or not file.suffix
    with opened(place) as store:
        if plain:
            from horen.database.exchange import export  # noqa: PLC0415

            count = export(store, file, query)
        elif file.is_file() and not overwrite:
            raise DataError(f"{file} exists already: choose another name, or replace it with --overwrite.")
        else:
            count = write_edits(file, _records(store, query), overwrite=overwrite, facts=True)
    if as_json:
        emit({"folder" if plain else "file": str(file), "edits": count})
        return
    show(f"Wrote {counted(count, 'edit')} to {file}.")


def _records(store: Store, query: Query) -> Iterator[FileRecord]:
    found = list(pages(lambda at, most: store.edits.list(query, before=at, limit=most)))
    for edit in reversed(found):
        if edit.active:
            facts = edit.facts
            yield FileRecord(edit.id, edit.prompt, edit.target, edit.rephrases, facts.subject, facts.source, facts.tags)
