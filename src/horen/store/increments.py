"""What a codebook has more than before, as plain things that travel, and adding that to a copy of it elsewhere.

No file of the one machine is needed on the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from horen.errors import StoreError
from horen.store import Begun, write_folder
from horen.store.content import CONFIG
from horen.store.names import FIRST
from horen.store.operations import now
from horen.store.state import GROWS, Saved
from horen.store.tensors import tensors_to_bytes


class Increment(TypedDict):
    """What is new in a codebook.

    Attributes:
        edits: how many active edits it has by now.
        records: further lines of its history.
        tensors: further rows of its tables, as a safetensors file.
    """

    edits: int
    records: list[dict[str, Any]]
    tensors: bytes


def increment(saved: Saved, before: Begun) -> Increment:
    """Return what a codebook has more than before.

    Raises:
        StoreError: when something else than further lines and rows has changed.
    """
    rows = before.missing(saved.folder.tensors, GROWS)
    if rows is None:
        raise StoreError(f"{saved.path} has changed in more than what was added to it: begin anew.")
    return {
        "edits": len(saved.history),
        "records": list(saved.folder.records[before.records :]),
        "tensors": b"".join(tensors_to_bytes(saved.path, rows)),
    }


def files_of(path: Path) -> dict[str, bytes]:
    """Return the files of a codebook that was written as a whole, by name."""
    return {name: (path / name).read_bytes() for name in (CONFIG, *FIRST)}


class Copy:
    """A codebook to which is added what another copy of it, on any machine, has more.

    Args:
        path: its folder, which holds the codebook already.

    Raises:
        StoreError: when the folder cannot be read.
    """

    def __init__(self, path: Path) -> None:
        saved = Saved.read(path)
        self._path, self._known = path, saved.known()
        self._config, self._tensors = saved.folder.config, dict(saved.folder.tensors)
        self._records = list(saved.folder.records)

    def add(self, more: Increment) -> None:
        """Add an increment, and save; what was there before stays whatever happens.

        Raises:
            StoreError: when it does not fit, or the folder cannot be written.
        """
        try:
            rows = load(more["tensors"])
            tensors = self._tensors | {name: torch.cat([self._tensors[name], new]) for name, new in rows.items()}
        except (KeyError, RuntimeError, SafetensorError) as error:
            raise StoreError(f"What was to be added to {self._path} does not fit it ({error}): begin anew.") from error
        records = [*self._records, *more["records"]]
        config = {**self._config, "saved": now(), "edits": more["edits"]}
        write_folder(self._path, config=config, records=records, tensors=tensors, known=self._known, grows=GROWS)
        self._config, self._records, self._tensors = config, records, tensors
