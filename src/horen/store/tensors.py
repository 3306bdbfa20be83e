"""Tensors as the bytes of a safetensors file and back, without a second copy of them in memory.

The format (https://github.com/huggingface/safetensors#format) is eight bytes with the length of a header, the header as
JSON, and the numbers of all tensors one behind the other.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from horen.errors import StoreError
from horen.store.content import TENSORS, Chunk, damaged

#: Types of numbers, as the format calls them.
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
TYPE_NAMES = {dtype: name for name, dtype in TYPES.items()}
_METADATA = "__metadata__"
# The numbers begin where a processor likes vectors to begin.
_ALIGNED = 64


def tensors_to_bytes(path: Path, tensors: Mapping[str, Tensor]) -> list[Chunk]:
    """Serialize tensors with their exact types and shapes; what is contiguous and on the CPU is not copied."""
    try:
        if not all(isinstance(name, str) for name in tensors):
            raise TypeError("a name is not text")
        if _METADATA in tensors:
            raise ValueError(f"the name {_METADATA!r} is reserved by the file format")
        plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        # Those that end on a cache line first, so that all of them begin on one: products of mapped rows then have the
        # bits and the speed of those in memory. Then the widest, so that numbers begin at a multiple of their size.
        names = sorted(plain, key=lambda n: (plain[n].nbytes % _ALIGNED != 0, -plain[n].element_size(), n))
        header: dict[str, Any] = {}
        chunks: list[Chunk] = []
        end = 0
        for name in names:
            tensor = plain[name]
            begin, end = end, end + tensor.numel() * tensor.element_size()
            header[name] = {
                "dtype": TYPE_NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [begin, end],
            }
            if end > begin:
                chunks.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNED)
        return [len(text).to_bytes(8, "little") + text, *chunks]
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise StoreError(
            f"{path} was not written: its tensors cannot be saved ({error}); give dense tensors under names that are "
            "text."
        ) from error


def map_tensors(path: Path, handle: BufferedReader) -> dict[str, Tensor]:
    """Return tensors of an open, checked file on the CPU.

    They are read when they are used, and processes share their pages. Writing to one changes this process's copy alone.
    The file is mapped as it was opened, so a writer may replace it by another meanwhile; whoever shortens it in place
    breaks its readers.
    """
    try:
        # Windows would not let a writer replace a mapped file.
        whole = handle.read() if os.name == "nt" else mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        start = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8:start])
        buffer = bytearray(whole) if isinstance(whole, bytes) else whole
        return {name: _tensor(buffer, start, entry) for name, entry in header.items() if name != _METADATA}
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError, OverflowError) as error:
        raise damaged(path, TENSORS, f"it is not a safetensors file ({error})") from error


def _tensor(buffer: mmap.mmap | bytearray, start: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape, (begin, end) = TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    count = math.prod(shape)
    if begin < 0 or min(shape, default=0) < 0 or end - begin != count * dtype.itemsize or start + end > len(buffer):
        raise ValueError(f"a tensor of shape {shape} cannot be at {begin} to {end}")
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype, count=count, offset=start + begin).reshape(shape)


def joined(path: Path, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors with the rows that later parts add to them; nothing is copied where there is one part.

    Raises:
        StoreError: when a later part does not fit the first.
    """
    found = dict(parts[0])
    later: dict[str, list[Tensor]] = {}
    for part in parts[1:]:
        for name, rows in part.items():
            first = found.get(name)
            if first is None or first.dtype != rows.dtype or first.shape[1:] != rows.shape[1:] or not rows.dim():
                raise damaged(path, TENSORS, f"an addition to it has rows of {name} that do not fit")
            later.setdefault(name, [first]).append(rows)
    return found | {name: torch.cat(some) for name, some in later.items()}
