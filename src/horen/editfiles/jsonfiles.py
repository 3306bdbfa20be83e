"""The values that a JSON file holds: those of its list or one a line, told by the content and not by the name."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BytesIO

from horen.editfiles.textfiles import BadRecordError, Item, json_lines, json_value, not_json

_BLANK = re.compile(r"[ \t\r\n]*")


def items(data: bytes, name: str) -> Iterator[Item]:
    """The values of a file one after another: those of its list, or one for each line that is not blank.

    A line that holds no JSON gives a BadRecordError in place of its value; no more is parsed than is asked for.

    Raises:
        DataError: when a list is not JSON; ``name`` says where.
    """
    body = data.removeprefix(codecs.BOM_UTF8)
    return _of_list(body, name) if is_list(body) else json_lines(BytesIO(data))


def spread_object(data: bytes) -> bool:
    """Whether a file is one JSON object over several lines."""
    body = data.removeprefix(codecs.BOM_UTF8).strip()
    return body.startswith(b"{") and b"\n" in body and isinstance(json_value(body), dict)


def is_list(body: bytes) -> bool:
    """Whether the content of a file, without a byte order mark, is one list of values."""
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
