"""What a saved codebook says in words: its settings and its history, read without its tensors and without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from horen.config import HorenConfig
from horen.edits import EditRecord
from horen.errors import StoreError
from horen.store.content import EDITS, TENSORS, uncollected
from horen.store.header import Kept, joined_headers, read_header
from horen.store.history import History
from horen.store.reading import Opened, State, settled
from horen.store.scan import Scan, read_scan, write_scan
from horen.store.scanned import FileLines

# Bytes of lines that are scanned in less time than it takes to import what reads a scan of them.
_MUCH = 1 << 23


@dataclass(frozen=True)
class Recorded:
    """The settings and the history of a saved codebook.

    Attributes:
        path: the folder.
        config: the settings.
        history: every operation; the texts of an edit are read when somebody asks for them.
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


def keep_scan(path: Path) -> None:
    """Keep beside a folder's first file of edits what a scan of it finds, where that is much.

    Whoever calls this holds the folder's lock.

    Raises:
        StoreError: when the file cannot be read, or holds no history.
    """
    found = settled(path, "codebook", _scanned)
    if found is not None:
        write_scan(path, *found)


def _scanned(_: State, opened: Opened) -> tuple[str, Scan] | None:
    content, digest = opened.verified_one(EDITS).read(), opened.digests()[EDITS]
    if len(content) < _MUCH or read_scan(opened.path, digest, len(content)) is not None:
        return None
    with uncollected():
        return digest, History.from_lines(FileLines(opened.path, content)).scan()


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
    config = HorenConfig.from_saved(settings)
    with uncollected():
        return Recorded(path, config, History.from_lines(FileLines.of(opened)))


def _read_with_sizes(state: State, opened: Opened) -> tuple[Recorded, Sizes]:
    headers = [read_header(opened.path, handle) for handle in opened.verified(TENSORS)]
    return _read(state, opened), Sizes(opened.path, joined_headers(headers))
