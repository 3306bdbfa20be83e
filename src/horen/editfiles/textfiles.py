"""Reading records from UTF-8 files that anyone may have written: lines, JSON values, texts, and what is wrong there."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from horen.errors import DataError

# The value at a place of a file, counted from 1; a BadRecordError where there is none.
Item = tuple[int, object]

# These bounds keep the memory constant whatever a file holds.
_LONGEST_LINE = 16 * 1024 * 1024
_LONGEST_TEXT = 100_000

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_JSON_NAMES = {type(None): "null", bool: "true or false", int: "a number", float: "a number"}
_JSON_NAMES |= {str: "text", list: "a list", dict: "an object"}


class BadRecordError(Exception):
    """Why a record cannot be used, in words that follow its place."""


# --- lines and values ------------------------------------------------------------------------------------------


def numbered_lines(handle: BinaryIO) -> Iterator[tuple[int, bytes | BadRecordError]]:
    """Yield the lines of a file, counted from 1, without a byte order mark.

    One that is too long gives a BadRecordError.
    """
    number = 0
    while raw := handle.readline(_LONGEST_LINE + 1):
        number += 1
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if len(raw) <= _LONGEST_LINE or raw.endswith(b"\n"):
            yield number, raw
            continue
        while not raw.endswith(b"\n") and (raw := handle.readline(_LONGEST_LINE)):
            pass
        yield number, BadRecordError(f"it is longer than {_LONGEST_LINE // 2**20} MiB")


def json_lines(handle: BinaryIO) -> Iterator[Item]:
    """Yield the value of each line that is not blank, or a BadRecordError; no more is read than is asked for."""
    for number, raw in numbered_lines(handle):
        if isinstance(raw, BadRecordError):
            yield number, raw
        elif raw.strip():
            yield number, json_value(raw)


def json_value(raw: bytes) -> object:
    """Return the JSON value of a line, or a BadRecordError where it holds none."""
    try:
        return json.loads(decode_line(raw))
    except BadRecordError as error:
        return error
    except json.JSONDecodeError as error:
        return BadRecordError(f"it is not JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError) as error:
        return BadRecordError(f"it is not usable JSON ({error})")


def decode_line(raw: bytes) -> str:
    """Return the text of a line.

    Raises:
        BadRecordError: when it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRecordError(f"it is not UTF-8 text (byte {error.start + 1} of the line)") from None


# --- checking --------------------------------------------------------------------------------------------------


def checked_text(value: object, name: str, expected: str = "text is") -> str:
    """Return a value of a record as text that can be used; it may be blank.

    Args:
        value: as it was read.
        name: what the value is called in messages.
        expected: what may stand there, and the verb, for the message about another type.

    Returns:
        The value, as it is.

    Raises:
        BadRecordError: when it is no text, is too long, or holds what is no character.
    """
    if not isinstance(value, str):
        raise BadRecordError(f"{name} is {json_name(value)} where {expected} expected")
    if len(value) > _LONGEST_TEXT:
        raise BadRecordError(f"{name} has {len(value)} characters, more than {_LONGEST_TEXT}")
    if "\0" in value:
        raise BadRecordError(f"{name} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRecordError(f"{name} holds half a character (a lone surrogate)") from None
    return value


def filled_text(value: object, name: str) -> str:
    """Check as :func:`checked_text` does; the text may not be blank either.

    Raises:
        BadRecordError: also when it is blank.
    """
    text = checked_text(value, name)
    if not text.strip():
        raise BadRecordError(f"{name} is empty")
    return text


def json_name(value: object) -> str:
    """Return what JSON calls values of this type."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


# --- files as a whole ------------------------------------------------------------------------------------------


def refuse_utf16(path: Path, start: bytes) -> None:
    """Raise DataError for a file that starts with these bytes when they are those of UTF-16 text."""
    if start.startswith(_UTF16):
        raise DataError(f"{path} is UTF-16 text where UTF-8 is expected; save it again as UTF-8.")


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error to raise when the system does not let a file be read."""
    why = getattr(error, "strerror", None) or error
    return DataError(f"{path} cannot be read ({why}); check the path and its permissions.")


def not_json(name: str | Path, error: Exception, way_out: str) -> DataError:
    """Return the error to raise when a file cannot be decoded or parsed as one JSON value.

    Args:
        name: of the file.
        error: what decoding or parsing raised.
        way_out: what to do about a mistake in the JSON, for the end of the message.

    Returns:
        The error, with the place of the mistake where there is one.
    """
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{name} is not UTF-8 text (byte {error.start + 1}); save it again as UTF-8.")
    if isinstance(error, json.JSONDecodeError):
        return DataError(f"{name} is not JSON ({error.msg}, line {error.lineno}, column {error.colno}); {way_out}")
    return DataError(f"{name} is not usable JSON ({error}); write one object a line in a .jsonl file.")


class TextLines:
    """The lines of a file as text, counted. After an error it goes on with the next line, unlike a generator."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.restart()

    def restart(self) -> None:
        """Begin with the first line again."""
        self._handle.seek(0)
        self.line = 0
        self._source = numbered_lines(self._handle)
        self._pending: list[str] = []

    def __iter__(self) -> TextLines:
        return self

    def __next__(self) -> str:
        if not self._pending:
            _, raw = next(self._source)
            self.line += 1
            if isinstance(raw, BadRecordError):
                raise raw
            # Some spreadsheets still end lines with a carriage return alone.
            self._pending = re.split(r"(?<=\r)(?=[^\n])", decode_line(raw))[::-1]
        else:
            self.line += 1
        return self._pending.pop()
