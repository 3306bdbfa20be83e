"""What a saved codebook says in words: its settings and its history, read without its tensors and without torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from horen.config import HorenConfig
from horen.edits import EditRecord
from horen.errors import StoreError
from horen.store.content import EDITS, TENSORS, record_of, split_lines, uncollected
from horen.store.header import Kept, joined_headers, read_header
from horen.store.history import History
from horen.store.operations import Operation, no_history, operation_of
from horen.store.reading import Opened, State, settled

# How the line of an edit begins, up to its id; up to format 4 it has blanks between fields. What follows is read when
# it is asked for.
_EDIT = re.compile(
    rb'\{"sequence":( ?)([1-9][0-9]*),\1"operation":\1("[a-z]+"),\1"at":\1("[^"\\]*"),'
    rb'\1"edit":\1\{"id":\1(?=([1-9][0-9]*),)'
)


@dataclass(frozen=True)
class Recorded:
    """The settings and the history of a saved codebook.

    Attributes:
        path: the folder.
        config: the settings.
        history: every operation; of an edit no more is read than somebody asks for.
    """

    path: Path
    config: HorenConfig
    history: History

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recorded:
        """Read a folder: the digests of its settings and its history are compared, of its tensors the length alone.

        Raises:
            StoreError: when it is missing, truncated, altered where it is read, or no codebook.
            MismatchError: when a newer version made it.
            ConfigError: when it has a setting that is not known.
        """
        return settled(Path(path), "codebook", _read)

    @classmethod
    def read_with_sizes(cls, path: str | os.PathLike[str]) -> tuple[Recorded, Sizes]:
        """Return what :meth:`read` does, and how large the tensors' rows are; their digest is compared too."""
        return settled(Path(path), "codebook", _read_with_sizes)


@dataclass(frozen=True)
class Sizes:
    """How large the rows of a codebook's tables are.

    Attributes:
        path: the folder.
        tables: shape and type of each tensor by its name.
    """

    path: Path
    tables: Mapping[str, Kept]

    def of(self, record: EditRecord) -> dict[str, int]:
        """Return the bytes of an edit's "keys", and of its "value" unless that is an earlier edit's.

        Raises:
            StoreError: when a table is missing.
        """
        value = 0 if record.reused else len(record.values) * self._row("values", "value_scales")
        return {"keys": len(record.entries) * self._row("keys"), "value": value}

    def _row(self, name: str, *beside: str) -> int:
        """Bytes of a row of a table, and of those beside it."""
        if name not in self.tables:
            raise StoreError(f"{self.path} lacks {name!r}: restore the folder from a copy.")
        return sum(self.tables[each].row_bytes for each in (name, *beside) if each in self.tables)


def _read(_: State, opened: Opened) -> Recorded:
    path = opened.path
    try:
        settings, _source = opened.config["settings"], opened.config["model"]["source"]
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} records no settings or model: restore the folder from a copy.") from error
    content = b"".join(handle.read() for handle in opened.verified(EDITS))
    config = HorenConfig.from_saved(settings)
    with uncollected():
        return Recorded(path, config, History.from_operations(_operations(path, split_lines(content))))


def _read_with_sizes(state: State, opened: Opened) -> tuple[Recorded, Sizes]:
    headers = [read_header(opened.path, handle) for handle in opened.verified(TENSORS)]
    return _read(state, opened), Sizes(opened.path, joined_headers(headers))


def _operations(path: Path, lines: Sequence[bytes]) -> Iterator[Operation]:
    """Yield what lines say of operations; of edits no more is read than the ids."""
    read, place = partial(_edit, path), 0
    while place < len(lines):
        line, first = lines[place], place
        match = _EDIT.match(line)
        if match is not None:
            # Edits of one operation begin with the same bytes, and their ids follow each other.
            added, begun, number = [], match[0], int(match[5])
            while line.startswith(b"%b%d," % (begun, number)) and line.endswith(b"}}"):
                added.append(EditRecord.later(number, read, line))
                number, place = number + 1, place + 1
                if place == len(lines):
                    break
                line = lines[place]
            if added:
                yield Operation(int(match[2]), json.loads(match[3]), json.loads(match[4]), tuple(added))
        if place == first:
            place += 1
            yield operation_of(record_of(path, line, f"line {place}"))


def _edit(path: Path, line: bytes) -> EditRecord:
    try:
        return EditRecord.of(record_of(path, line, "a line")["edit"])
    except (KeyError, TypeError, ValueError) as error:
        raise no_history(error) from error
