"""Bytes of a data set, from a file or the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path

from horen.editfiles.textfiles import refuse_utf16, unreadable
from horen.errors import DataError
from horen.extras import need

_HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/[\w.-]+?)(:(?P<part>[\w./-]+))?")
_DATA_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".gz", ".zip")


def read(place: str | Path) -> bytes:
    """Return the bytes of a file, or the rows of a hub data set as JSON Lines.

    A text that names no file is a hub id when it reads ``owner/name``, ``owner/name:split`` or
    ``owner/name:folder/file.json``.

    Raises:
        DataError: when there is nothing to read.
    """
    path = Path(place)
    try:
        data = None if path.is_dir() else path.read_bytes()
    except FileNotFoundError:
        hub_id = _HUB_ID.fullmatch(place) if isinstance(place, str) else None
        if hub_id is None or hub_id["repository"].lower().endswith(_DATA_ENDINGS):
            raise DataError(
                f"The file {path} does not exist; check the path, or give a hub id such as owner/name."
            ) from None
        return _fetch(hub_id["repository"], hub_id["part"])
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if data is None:
        raise DataError(f"{path} is a folder; give one of its files, JSON or JSON Lines.")
    refuse_utf16(path, data)
    return data


def _fetch(repository: str, part: str | None) -> bytes:
    hub = need(
        "datasets",
        "datasets",
        f"There is no file {repository}, and as a hub id it needs",
        ", or download the data set and give the path of its file",
    )
    try:
        if part is not None and "." in part:
            rows = hub.load_dataset(repository, data_files=part, split="train")
        else:
            rows = hub.load_dataset(repository, split=part)
    except Exception as error:
        raise DataError(
            f"There is no file {repository}, and it could not be loaded from the hub ({error}); check the name and "
            "the network, or download the data set and give the path of its file."
        ) from error
    if isinstance(rows, dict):
        if len(rows) != 1:
            raise DataError(f"{repository} has the splits {', '.join(rows)}; give one of them as {repository}:split.")
        (rows,) = rows.values()
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in rows)
