"""The header of a safetensors file: what is in it, read without its numbers and without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from horen.store.content import TENSORS, damaged

_METADATA = "__metadata__"


@dataclass(frozen=True)
class Kept:
    """A tensor as a file has it.

    Attributes:
        shape: its dimensions.
        nbytes: its length in bytes.
    """

    shape: tuple[int, ...]
    nbytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of what is beside one index of its first dimension; 0 where there is none."""
        return self.nbytes // self.shape[0] if self.shape and self.shape[0] else 0


def read_header(path: Path, handle: BufferedReader) -> dict[str, Kept]:
    """Return what an open safetensors file says is in it.

    Raises:
        StoreError: when it is none.
    """
    try:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        found = {}
        for name, told in header.items():
            if name != _METADATA:
                begin, end = told["data_offsets"]
                found[name] = Kept(tuple(map(int, told["shape"])), int(end) - int(begin))
        if any(kept.nbytes < 0 or math.prod(kept.shape) < 0 for kept in found.values()):
            raise ValueError("a tensor has less than no numbers")
        return found
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise damaged(path, TENSORS, f"it is not a safetensors file ({error})") from error


def joined_headers(headers: Sequence[Mapping[str, Kept]]) -> dict[str, Kept]:
    """Return what a first file and its additions have together, whose rows follow each other."""
    found = dict(headers[0])
    for header in headers[1:]:
        for name, more in header.items():
            first = found.get(name)
            rows = (0 if first is None else first.shape[0]) + more.shape[0]
            found[name] = Kept((rows, *more.shape[1:]), (0 if first is None else first.nbytes) + more.nbytes)
    return found
