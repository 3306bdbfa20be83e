"""Lines of a file with what became of them, in a temporary file until they are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from horen.editfiles.records import FileRecord
from horen.editfiles.spool import Spool
from horen.edits import Receipt

#: A line and its receipt.
Done = tuple[FileRecord, Receipt]
Receipts = Spool[Done]

_NAMES = tuple(field.name for field in dataclasses.fields(Receipt))


def receipts(items: Iterable[Done] = ()) -> Receipts:
    """Keep lines and receipts."""
    return Spool(_fields, _made, items)


def _fields(done: Done) -> list[Any]:
    record, receipt = done
    told = [getattr(receipt, name) for name in _NAMES]
    return [*told, record.line, record.prompt, record.target, *record.rephrases]


def _made(fields: list[Any]) -> Done:
    told = dict(zip(_NAMES, fields, strict=False))
    line, prompt, target, *rephrases = fields[len(_NAMES) :]
    told["replaced"] = tuple(told["replaced"])
    return FileRecord(line, prompt, target, tuple(rephrases)), Receipt(**told)
