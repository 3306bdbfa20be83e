"""The values that a JSON file holds: a list's, one a line, or over several lines; the content tells, not the name."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO

from horen.editfiles.textfiles import BadRecordError, Item, json_lines, json_value, not_json

_BLANK = re.compile(r"[ \t\r\n]*")


def items(data: bytes, name: str) -> Iterator[Item]:
    """Yield the values of a file one after another.

    They are those of its list, one for each line that is not blank, or spread ones. A line that holds no JSON gives a
    BadRecordError in place of its value; no more is parsed than is asked for.

    Raises:
        DataError: when a list or a spread value is not JSON; ``name`` says where.
    """
    body = data.removeprefix(codecs.BOM_UTF8)
    if is_list(body):
        return _parsed(body, name, _elements)
    return _parsed(body, name, _spread) if is_spread(body) else json_lines(BytesIO(data))


def spread_object(data: bytes) -> bool:
    """Return whether a file is one JSON object over several lines."""
    body = data.removeprefix(codecs.BOM_UTF8).strip()
    return body.startswith(b"{") and b"\n" in body and isinstance(json_value(body), dict)


def is_list(body: bytes) -> bool:
    """Return whether the content of a file, without a byte order mark, is one list of values."""
    if not body.lstrip().startswith(b"["):
        return False
    first, _, rest = body.lstrip().partition(b"\n")
    # JSON Lines may begin with a list as well, which is a bad record then.
    return not rest.strip() or isinstance(json_value(first), BadRecordError)


def is_spread(body: bytes) -> bool:
    """Return whether the content of a file, without a byte order mark, is objects that take several lines each."""
    body = body.lstrip()
    first, _, rest = body.partition(b"\n")
    if not first.startswith(b"{") or not rest.strip() or not isinstance(json_value(first), BadRecordError):
        return False
    if first.strip() == b"{":
        return True
    try:  # a line that is cut short is a bad record among others, unless the next ones complete it
        json.JSONDecoder().raw_decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(body: bytes, name: str, values: Callable[[str], Iterator[Item]]) -> Iterator[Item]:
    try:
        yield from values(body.decode("utf-8"))
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


def _spread(text: str) -> Iterator[Item]:
    parse = json.JSONDecoder().raw_decode
    position, number = _after_blanks(text, 0), 0
    while position < len(text):
        value, position = parse(text, position)
        number += 1
        yield number, value
        position = _after_blanks(text, position)


def _after_blanks(text: str, position: int) -> int:
    blanks = _BLANK.match(text, position)
    return position if blanks is None else blanks.end()
