"""Rows of a codebook's tables as the bytes that a store keeps: those of a block, one table behind the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from horen.edits import EditRecord
from horen.errors import StoreError
from horen.store.tensors import TYPE_NAMES, TYPES

#: Tables that have a row for each entry, and those that have one for each value.
OF_ENTRIES = ("keys", "value_of")
OF_VALUES = ("values", "value_scales")


class Head(NamedTuple):
    """How far the numbers of a store have come."""

    version: int
    edits: int
    entries: int
    values: int


@dataclass(frozen=True)
class Layout:
    """What a row of each table is.

    Attributes:
        rows: by the name of a table the type of its numbers and the shape of a row.
    """

    rows: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Layout:
        """Return the layout of a codebook's tables, whatever else is among the tensors."""
        names = [name for name in (*OF_ENTRIES, *OF_VALUES) if name in tensors]
        return cls({name: (tensors[name].dtype, tuple(tensors[name].shape[1:])) for name in names})

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Layout:
        """Return the layout that :meth:`to_json` gave."""
        return cls({name: (TYPES[dtype], tuple(shape)) for name, (dtype, shape) in told.items()})

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: [TYPE_NAMES[dtype], list(shape)] for name, (dtype, shape) in self.rows.items()}

    def bytes_of(self, name: str) -> int:
        """Return how many bytes a row of a table has."""
        dtype, shape = self.rows[name]
        return dtype.itemsize * prod(shape)

    def pack(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Return rows as bytes; tables of which there are none may be left out."""
        return b"".join(_raw(tensors[name].to(self.rows[name][0])) for name in self.rows if name in tensors)

    def check_added(self, record: EditRecord, base: Head, rows: Mapping[str, Tensor]) -> None:
        """Raise StoreError when rows are not those that an edit adds to a base.

        Its entries go on from those of the base, and so does its value, unless it is one that was there.
        """
        entries, own = len(record.entries), record.value >= base.values
        counts = dict.fromkeys(OF_ENTRIES, entries) | dict.fromkeys(OF_VALUES, len(record.values) if own else 0)
        wrong = [
            name
            for name, (dtype, shape) in self.rows.items()
            if (tensor := rows.get(name, torch.empty(0, *shape, dtype=dtype))).shape != (counts[name], *shape)
            or tensor.dtype != dtype
        ]
        if not entries or record.entries != tuple(range(base.entries, base.entries + entries)):
            wrong.append("entries")
        if not 0 <= record.value <= base.values or (not wrong and bool((rows["value_of"] != record.value).any())):
            wrong.append("value")
        if unknown := sorted(rows.keys() - self.rows.keys()):
            wrong += unknown
        if wrong:
            raise StoreError(
                f"What was trained for {record.prompt!r} does not fit the store ({', '.join(wrong)}): train it anew "
                "with a copy of the store's codebook."
            )

    def split(self, content: bytes, entries: int, values: int) -> dict[str, memoryview]:
        """Return the bytes of each table's rows.

        Raises:
            StoreError: when the content is of another length.
        """
        found, start, view = {}, 0, memoryview(content)
        for name in self.rows:
            size = self.bytes_of(name) * (entries if name in OF_ENTRIES else values)
            found[name] = view[start : start + size]
            start += size
        if start != len(content):
            raise StoreError(
                f"A block of the store has {len(content)} bytes where {start} were written: restore it from a backup."
            )
        return found

    def joined(self, parts: Iterable[Mapping[str, memoryview]]) -> dict[str, Tensor]:
        """Return the tables of blocks that follow each other."""
        some = list(parts)
        return {name: self._tensor(name, b"".join(part[name] for part in some)) for name in self.rows}

    def _tensor(self, name: str, content: bytes) -> Tensor:
        dtype, shape = self.rows[name]
        if not content:
            return torch.empty((0, *shape), dtype=dtype)
        return torch.frombuffer(bytearray(content), dtype=dtype).reshape(-1, *shape)


def digest_of(content: bytes) -> bytes:
    """Return the digest by which a block is known to be what was written."""
    return hashlib.blake2b(content, digest_size=16).digest()


def check_digest(content: bytes, digest: bytes, number: int) -> bytes:
    """Return the content of a block.

    Raises:
        StoreError: when it is not what was written.
    """
    if digest_of(content) != digest:
        raise StoreError(f"Block {number} of the store is damaged: restore it from a backup.")
    return content


def _raw(tensor: Tensor) -> bytes:
    plain = tensor.detach().to("cpu").contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
