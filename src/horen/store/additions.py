"""Additions: files beside the first two of a folder, so that a save writes what is new and leaves the rest as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from horen.store.content import EDITS, TENSORS, Data, records_to_bytes
from horen.store.names import FIRST, added_name, added_number, listed
from horen.store.tensors import tensors_to_bytes

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


def addition(
    path: Path,
    document: Mapping[str, Any],
    begun: Begun,
    records: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    grows: Collection[str],
) -> dict[str, Data] | None:
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
    return further(path, document, records, rows, begun.records)


def further(
    path: Path,
    document: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Tensor],
    begin: int = 0,
) -> dict[str, Data] | None:
    """Return the content of the next additions by their names; None where all files should be written anew.

    Args:
        path: the folder.
        document: its configuration as it is.
        records: of which those from ``begin`` on are new.
        rows: that are new.
        begin: number of the first new record.

    Raises:
        StoreError: when what is new cannot be stored.
    """
    names = listed(path, document)
    last = [name for some in names.values() for name in some if name not in FIRST]
    number = 1 + max(map(added_number, last), default=0)
    first = sum(document["files"][name]["bytes"] for name in FIRST)
    if first < _SMALL or number > _MOST:
        return None
    data = {}
    if len(records) > begin:
        data[added_name(EDITS, number)] = records_to_bytes(path, records, begin)
    if rows:
        added = tensors_to_bytes(path, rows)
        data[added_name(TENSORS, number)] = Data(lambda: added)
    more = sum(document["files"][name]["bytes"] for name in last)
    more += sum(content.size for content in data.values())
    return data if more <= _SHARE * first else None
