"""Additions: files beside the first two of a folder, so that a save writes what is new and leaves the rest as it is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from horen.store.content import CONFIG, EDITS, TENSORS, Chunk, damaged, records_to_bytes
from horen.store.tensors import tensors_to_bytes

#: The files that every folder has, the additions to which are named by number: edits.added-1.jsonl and so on.
FIRST = (EDITS, TENSORS)
#: What the names of all files of a folder match, as shells match them.
PATTERNS = (CONFIG, *FIRST, "edits.added-*.jsonl", "codebook.added-*.safetensors")
_ADDED = re.compile(r"(edits|codebook)\.added-([1-9][0-9]{0,8})\.(jsonl|safetensors)")

# Below so many bytes all are written anew: that takes no longer than an addition does.
_SMALL = 1 << 20
# Whoever loads a folder with additions copies its tables, so they are only so many, and only such a share of the rest.
_MOST, _SHARE = 64, 0.25


@dataclass(frozen=True)
class Begun:
    """How much of what will be written a folder holds already.

    Attributes:
        records: it holds the first so many records.
        shapes: by the name of each tensor its shape there: it holds the first rows of those that grow, and the others
            as they are.
    """

    records: int
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> Begun:
        """Return what a folder holds in which these were written."""
        return cls(len(records), {name: tuple(tensor.shape) for name, tensor in tensors.items()})

    def missing(self, tensors: Mapping[str, Tensor], grows: Collection[str]) -> dict[str, Tensor] | None:
        """Return the rows that a folder lacks; None where that is not all that has changed."""
        if tensors.keys() != self.shapes.keys():
            return None
        found = {}
        for name, tensor in tensors.items():
            before, after = self.shapes[name], tuple(tensor.shape)
            if before == after:
                continue
            if name not in grows or before[1:] != after[1:] or before[0] > after[0]:
                return None
            found[name] = tensor[before[0] :]
        return found


#: What a folder may hold by the mark of that content, and how much that is of what will be written; None for unknown.
Known = dict[str, Begun | None]


def listed(path: Path, document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of a folder's files, each of :data:`FIRST` with its additions in order.

    Raises:
        StoreError: when the folder's configuration names others.
    """
    files = document.get("files")
    found: dict[str, list[tuple[int, str]]] = {name: [(0, name)] for name in FIRST}
    for name in files if isinstance(files, dict) else ():
        if name in FIRST:
            continue
        match = _ADDED.fullmatch(name)
        first = next((first for first in FIRST if match and name == _name(first, int(match[2]))), None)
        if match is None or first is None:
            raise damaged(path, CONFIG, f"it describes {name!r}")
        found[first].append((int(match[2]), name))
    return {first: [name for _, name in sorted(names)] for first, names in found.items()}


def is_addition(name: str) -> bool:
    """Return whether a file of this name is an addition, or one on its way."""
    return _ADDED.fullmatch(name.removesuffix(".next")) is not None


def addition(
    path: Path,
    document: Mapping[str, Any],
    begun: Begun,
    records: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    grows: Collection[str],
) -> dict[str, list[Chunk]] | None:
    """Return the content of the next additions by their names; None where all files have to be written, or should be.

    Args:
        path: the folder.
        document: its configuration as it is.
        begun: what it holds.
        records: all that it shall hold.
        tensors: all that it shall hold.
        grows: names of those that rows are added to.

    Raises:
        StoreError: when what is new cannot be stored.
    """
    rows = begun.missing(tensors, grows)
    if rows is None or len(records) < begun.records:
        return None
    names = listed(path, document)
    last = [name for some in names.values() for name in some if name not in FIRST]
    number = 1 + max((int(_number(name)) for name in last), default=0)
    data = {}
    if len(records) > begun.records:
        data[_name(EDITS, number)] = records_to_bytes(path, records[begun.records :])
    if rows:
        data[_name(TENSORS, number)] = tensors_to_bytes(path, rows)
    first = sum(document["files"][name]["bytes"] for name in FIRST)
    more = sum(document["files"][name]["bytes"] for name in last)
    more += sum(len(chunk) for chunks in data.values() for chunk in chunks)
    return data if first >= _SMALL and more <= _SHARE * first and number <= _MOST else None


def _name(first: str, number: int) -> str:
    stem, ending = first.split(".")
    return f"{stem}.added-{number}.{ending}"


def _number(name: str) -> str:
    match = _ADDED.fullmatch(name)
    assert match is not None  # noqa: S101 - listed() has seen to it
    return match[2]
