"""Files of edits: reading them one record at a time, checking them before anything is applied, writing them.

Accepted are JSON Lines and JSON lists (``.jsonl``, ``.ndjson``, ``.json``; the content tells which) and tables with a
header row (``.csv``, ``.tsv``, where rephrases are separated by ``|``). All of them are UTF-8.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import IO, Protocol

from horen.editfiles.atomic import whole_file
from horen.editfiles.fields import check_names, column, edit_of, facts_of
from horen.editfiles.jsonfiles import is_list, is_spread, items
from horen.editfiles.textfiles import (
    BadRecordError,
    Item,
    TextLines,
    json_lines,
    json_name,
    json_value,
    not_json,
    numbered_lines,
    refuse_utf16,
    unreadable,
)
from horen.errors import DataError

# The csv module refuses longer fields by itself.
_LONGEST_FIELD = 131_072

# A list is told by its first character, before which blank space may stand.
_PEEKED = 4096
# Beside the usual one; spreadsheets take semicolons where a comma stands in numbers.
_SEPARATORS = (";", "\t")
_TOLD_SEPARATOR = re.compile(r"\"?sep=(.)\"?[,;]*", re.IGNORECASE)

_READABLE = ".jsonl, .ndjson, .json, .csv or .tsv"
_WRITABLE = ".jsonl, .ndjson, .csv or .tsv"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One usable record; ``line`` is where it starts (in a JSON list, which one it is), counted from 1.

    What it is about, where it is from and its tags are for stores.
    """

    line: int
    prompt: str
    target: str
    rephrases: tuple[str, ...] = ()
    subject: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadLine:
    """A record that cannot be used, and why."""

    line: int
    reason: str


class EditLike(Protocol):
    """Anything with a prompt, a target and rephrases, such as ``FileRecord`` and ``Edit``."""

    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def rephrases(self) -> Sequence[str]: ...  # noqa: D102


def iter_edits(
    path: Path,
    *,
    on_bad: Callable[[BadLine], None] | None = None,
    fields: MutableMapping[str, str] | None = None,
) -> Iterator[FileRecord]:
    """Read the records of a file one after another, in constant memory (a list is read as a whole).

    Without ``on_bad`` the first record that cannot be used raises ``DataError``; with it, ``on_bad`` gets every
    such record and reading goes on. What concerns the file as a whole raises ``DataError`` either way. ``fields`` is
    told what each field of the file was taken for, with an empty text for one that is of no use.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path} is no file of edits by its name; it must end in {_READABLE}.")
    _check_file_can_be_read(path)
    return _records(path, _READERS[path.suffix.lower()], on_bad, fields)


def unit_of(path: Path) -> str:
    """Return what the numbers of a file's records count.

    It is "record" in a JSON list or where they take lines, else "line".
    """
    ending = path.suffix.lower()
    with suppress(OSError):
        return "record" if ending == ".json" or (_READERS.get(ending) is _read_jsonl and _is_whole(path)) else "line"
    return "line"


def check_file(path: Path) -> list[BadLine]:
    """Read a whole file and report every record that cannot be used."""
    bad: list[BadLine] = []
    for _ in iter_edits(path, on_bad=bad.append):
        pass
    return bad


def write_edits(path: Path, records: Iterable[EditLike], *, overwrite: bool = False, facts: bool = False) -> int:
    """Write records to a ``.jsonl``, ``.ndjson``, ``.csv`` or ``.tsv`` file as a whole; return how many.

    With ``facts`` a :class:`FileRecord` is written with its subject, source and tags too. A failure leaves no
    half-written file and an existing file as it was. ``iter_edits`` reads back what this writes.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS or path.suffix.lower() == ".json":
        raise DataError(f"{path} cannot be written by its name; it must end in {_WRITABLE}.")
    try:
        _check_overwrite(path, overwrite)
        with whole_file(path, before_replacing=lambda: _check_overwrite(path, overwrite)) as handle:
            count = _write(path, handle, records, facts)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path} cannot be written ({why}); nothing was changed. Choose another place.") from error
    return count


# --- reading ---------------------------------------------------------------------------------------------------


def _check_file_can_be_read(path: Path) -> None:
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; give a file that ends in {_READABLE}.")
        with path.open("rb") as handle:
            refuse_utf16(path, handle.peek(2))
    except FileNotFoundError:
        raise DataError(f"The file {path} does not exist; check the path.") from None
    except OSError as error:
        raise unreadable(path, error) from error


def _records(
    path: Path,
    reader: Callable[[Path], Iterator[Item]],
    on_bad: Callable[[BadLine], None] | None,
    fields: MutableMapping[str, str] | None,
) -> Iterator[FileRecord]:
    unit = unit_of(path)
    for line, raw in _with_system_errors_named(path, reader):
        try:
            if isinstance(raw, BadRecordError):
                raise raw
            prompt, target, rephrases = edit_of(raw, fields)
            facts = facts_of(raw)
        except BadRecordError as error:
            if on_bad is None:
                raise DataError(
                    f"{path}, {unit} {line}: {error}; fix the {unit}, or skip bad lines with --skip-bad."
                ) from None
            on_bad(BadLine(line, str(error)))
            continue
        yield FileRecord(line, prompt, target, rephrases, *facts)


def _with_system_errors_named(path: Path, reader: Callable[[Path], Iterator[Item]]) -> Iterator[Item]:
    # Apart from _records, so that an OSError of the caller's on_bad (a closed pipe) is not taken for the file's.
    try:
        yield from reader(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _read_jsonl(path: Path) -> Iterator[Item]:
    if _is_whole(path):
        yield from items(path.read_bytes(), str(path))
        return
    with path.open("rb") as handle:
        yield from json_lines(handle)


def _is_whole(path: Path) -> bool:
    """Return whether a file has to be read as a whole: as a list, or as records that take several lines each."""
    with path.open("rb") as handle:
        start = handle.peek(_PEEKED)[:_PEEKED].removeprefix(codecs.BOM_UTF8).lstrip()
        if start.startswith(b"{"):
            # Most files have a record in their first line, which tells without the rest.
            first = next(raw for _, raw in numbered_lines(handle) if isinstance(raw, BadRecordError) or raw.strip())
            if isinstance(first, BadRecordError) or not isinstance(json_value(first), BadRecordError):
                return False
        elif not start.startswith(b"["):
            return False
    body = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    return is_list(body) or is_spread(body)


def _read_json(path: Path) -> Iterator[Item]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":  # several values: one a line
            yield from _read_jsonl(path)
            return
        way_out = "fix it there, or name the file .jsonl if it holds one object a line."
        raise not_json(path, error, way_out) from None
    if not isinstance(content, list | dict):
        raise DataError(f"{path} holds {json_name(content)} where a list of objects is expected; put it into [ ].")
    yield from enumerate(content if isinstance(content, list) else [content], start=1)


def _read_table(path: Path, delimiter: str) -> Iterator[Item]:
    with path.open("rb") as handle:
        lines = TextLines(handle)
        delimiter = _delimiter(lines, delimiter)
        # Not strict would turn a quote that is never closed into one huge field without a word.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _read_header(path, reader, delimiter)
        while True:
            start = lines.line + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except BadRecordError as error:
                yield start, error
            except csv.Error as error:
                reason = "a quote is not closed" if "unexpected end of data" in str(error) else str(error)
                yield start, BadRecordError(f"it is not a row of the table ({reason})")
            else:
                # Spreadsheets leave rows of nothing but separators behind.
                if any(value.strip() for value in row):
                    yield start, _row_to_raw(header, row)


def _delimiter(lines: TextLines, usual: str) -> str:
    """Return what separates the columns: as a first line "sep=;" says, or in a .csv file as the header row looks."""
    try:
        first = next(lines)
    except (StopIteration, BadRecordError):
        lines.restart()
        return usual
    told = _TOLD_SEPARATOR.fullmatch(first.rstrip("\r\n"))
    if told is not None:
        return told[1]
    lines.restart()
    for delimiter in (usual, *_SEPARATORS) if usual == "," else (usual,):
        names = {column(name.strip(' "').lower()) for name in first.rstrip("\r\n").split(delimiter)}
        if {"prompt", "target"} <= names:
            return delimiter
    return usual


def _read_header(path: Path, reader: Iterator[list[str]], delimiter: str) -> list[str]:
    try:
        names = [name.strip().lower() for name in next(reader, [])]
    except (csv.Error, BadRecordError) as error:
        raise DataError(f"{path}, line 1: the header row cannot be read ({error}); fix the line.") from None
    separator = {"\t": "tabs", ",": "commas"}.get(delimiter, repr(delimiter))
    taken = [column(name) for name in names]
    for name in ("prompt", "target"):
        if name not in taken:
            found = repr(delimiter.join(names)) if any(names) else "nothing"
            raise DataError(
                f"{path}, line 1: the header row must name the columns prompt and target (and may name rephrases), "
                f"separated by {separator}, but has {found}; add {name}."
            )
    try:
        check_names(filter(None, names))
    except BadRecordError as error:
        raise DataError(f"{path}, line 1: {error}.") from None
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise DataError(f"{path}, line 1: the header row names {twice[0]} twice; rename one of the columns.")
    return names


def _row_to_raw(header: list[str], row: list[str]) -> object:
    if len(row) > len(header):
        return BadRecordError(
            f'it has {len(row)} values where the header row names {len(header)} (put "..." around a value with a '
            "separator in it)"
        )
    # A row may leave out empty values at its end.
    raw: dict[str, object] = {}
    for name, value in zip_longest(header, row, fillvalue=""):
        what = column(name) if name else None
        if what in {"rephrases", "tags"}:
            raw[name] = [text.strip() for text in value.split("|") if text.strip()]
        elif name and (value.strip() or what in {"prompt", "target"}):
            raw[name] = value
    return raw


# --- writing ---------------------------------------------------------------------------------------------------


def _check_overwrite(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file.")
    if not overwrite and os.path.lexists(path):
        raise DataError(f"{path} exists already; choose another name, or allow it to be overwritten.")


def _write(path: Path, handle: IO[str], records: Iterable[EditLike], facts: bool) -> int:
    delimiter = _DELIMITERS.get(path.suffix.lower())
    table = csv.writer(handle, delimiter=delimiter) if delimiter else None
    names = ["prompt", "target", "rephrases", *(["subject", "source", "tags"] if facts else [])]
    if table:
        table.writerow(names)
    number = 0
    for number, record in enumerate(records, start=1):
        raw: dict[str, object] = {
            "prompt": record.prompt,
            "target": record.target,
            "rephrases": list(record.rephrases),
            **(_facts(record) if facts and isinstance(record, FileRecord) else {}),
        }
        try:
            edit_of(raw)
            if table:
                table.writerow([_cell(raw.get(name), name) for name in names])
                continue
        except BadRecordError as error:
            raise DataError(f"{path} was not written: record {number}: {error}; correct it or leave it out.") from None
        told = {name: value for name, value in raw.items() if value or name in {"prompt", "target"}}
        handle.write(json.dumps(told, ensure_ascii=False) + "\n")
    return number


def _facts(record: FileRecord) -> dict[str, object]:
    # Reading would put the subject in the place of {}, which are the text's own here.
    held = any("{}" in text for text in (record.prompt, *record.rephrases))
    return {"subject": None if held else record.subject, "source": record.source, "tags": list(record.tags)}


def _cell(value: object, name: str) -> str:
    return _join(tuple(value), name) if isinstance(value, list) else str(value or "")


def _join(texts: tuple[str, ...], name: str) -> str:
    joined = "|".join(texts)
    # Reading would take these apart differently, or not at all.
    if any("|" in text or text != text.strip() for text in texts) or len(joined) > _LONGEST_FIELD:
        raise BadRecordError(
            f"{name} do not fit into one column of a table (they hold '|' or outer blanks, or are too long), but "
            "would into a .jsonl file"
        )
    return joined


_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_READERS: Mapping[str, Callable[[Path], Iterator[Item]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    **{ending: partial(_read_table, delimiter=delimiter) for ending, delimiter in _DELIMITERS.items()},
}
