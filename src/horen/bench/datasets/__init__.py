"""Data sets of the knowledge-editing literature, read into one form."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from horen.bench.datasets.files import read
from horen.bench.datasets.formats import FORMATS, Format
from horen.bench.records import Dataset, Rejected
from horen.editfiles.jsonfiles import items, spread_object
from horen.errors import DataError

__all__ = ["FORMATS", "Format", "load"]


def load(name: str, place: str | Path, *, limit: int | None = None, companions: Sequence[str | Path] = ()) -> Dataset:
    """Read a data set: the records that can be used, in the file's order, and why others cannot.

    Args:
        name: of the format, one of ``FORMATS``.
        place: a file, JSON list or JSON Lines by its content; or a hub id, ``owner/name``, ``owner/name:split`` or
            ``owner/name:folder/file.json``, for which the package ``datasets`` must be installed.
        limit: most records; the first usable ones are taken. The file is parsed no further than they need, but for
            ``entity_questions``, where all of it serves for negatives: those that are no edits come first.
        companions: further files (or hub ids) of the same format that give no edits. What they ask about an edit of
            ``place`` (same prompt, same target) is added to it; for ``entity_questions`` their prompts are negatives.

    Returns:
        The data set. Its sha256 is of the bytes of the file and of its companions, one after another; of a hub data
        set the rows count as JSON Lines. What companions hold amiss is among the rejected, by their names.

    Raises:
        DataError: when the format is unknown, a file cannot be read or is no JSON, or no record of it can be used.
    """
    chosen = _format(name)
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit} is not valid: give at least 1, or none for the whole file.")
    data = read(place)
    others = [(str(other), read(other)) for other in companions]
    digest = hashlib.sha256(data)
    for _, other in others:
        digest.update(other)
    records, rejected = chosen.read(
        items(data, str(place)), [(other, items(content, other)) for other, content in others], limit
    )
    if not records:
        raise _no_record(name, str(place), data, rejected)
    return Dataset(
        name=name,
        path=str(place),
        sha256=digest.hexdigest(),
        records=tuple(records),
        rejected=tuple(rejected),
        unstructured=chosen.unstructured,
    )


def _format(name: str) -> Format:
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise DataError(f"There is no data set format {name!r}: {hint}Known are {', '.join(FORMATS)}.")


def _no_record(name: str, place: str, data: bytes, rejected: Sequence[Rejected]) -> DataError:
    if spread_object(data):
        why = "it is one object where a list of them, or one a line, is expected"
    elif rejected:
        why = f"{len(rejected)} cannot be used, record {rejected[0].number} because {rejected[0].reason}"
    else:
        why = "it is empty"
    return DataError(
        f"{place} holds no usable record of the format {name} ({why}). The format reads "
        f"{'; '.join(FORMATS[name].fields)}: check the file, or give the name of its own format."
    )
