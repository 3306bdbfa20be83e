"""Bytes of a data set, and the values that they hold: a JSON list or one JSON value a line, told by the content."""

from __future__ import annotations

import codecs
import importlib
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from horen.errors import DataError
from horen.textfiles import BadRecordError, Item, json_lines, json_value, not_json, refuse_utf16, unreadable

_HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/[\w.-]+?)(:(?P<part>[\w./-]+))?")
_DATA_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".gz", ".zip")
_BLANK = re.compile(r"[ \t\r\n]*")


def read(place: str | Path) -> bytes:
    """The bytes of a file, or the rows of a hub data set as JSON Lines.

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


def items(data: bytes, name: str) -> Iterator[Item]:
    """The values of a file one after another: those of its list, or one for each line that is not blank.

    A line that holds no JSON gives a BadRecordError in place of its value; no more is parsed than is asked for.

    Raises:
        DataError: when a list is not JSON; ``name`` says where.
    """
    body = data.removeprefix(codecs.BOM_UTF8)
    return _of_list(body, name) if _is_list(body) else json_lines(BytesIO(data))


def spread_object(data: bytes) -> bool:
    """Whether a file is one JSON object over several lines."""
    body = data.removeprefix(codecs.BOM_UTF8).strip()
    return body.startswith(b"{") and b"\n" in body and isinstance(json_value(body), dict)


def _is_list(body: bytes) -> bool:
    if not body.lstrip().startswith(b"["):
        return False
    first, _, rest = body.lstrip().partition(b"\n")
    # JSON Lines may begin with a list as well, which is a bad record then.
    return not rest.strip() or isinstance(json_value(first), BadRecordError)


def _of_list(body: bytes, name: str) -> Iterator[Item]:
    try:
        yield from _elements(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        way_out = "a list of objects, or one object a line, is expected: fix it there, or download it again."
        raise not_json(name, error, way_out) from None


def _elements(text: str) -> Iterator[Item]:
    parse = json.JSONDecoder().raw_decode
    position = _after_blanks(text, text.index("[") + 1)
    number = 0
    while number or not text.startswith("]", position):
        value, position = parse(text, position)
        number += 1
        yield number, value
        position = _after_blanks(text, position)
        if text.startswith("]", position):
            break
        if not text.startswith(",", position):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
        position = _after_blanks(text, position + 1)
    end = _after_blanks(text, position + 1)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _after_blanks(text: str, position: int) -> int:
    blanks = _BLANK.match(text, position)
    return position if blanks is None else blanks.end()


def _fetch(repository: str, part: str | None) -> bytes:
    try:
        hub: Any = importlib.import_module("datasets")
    except ImportError:
        raise DataError(
            f"There is no file {repository}, and as a hub id it needs a package that is not installed: "
            "run pip install datasets, or download the data set and give the path of its file."
        ) from None
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
