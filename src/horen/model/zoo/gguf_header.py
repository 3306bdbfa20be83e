"""The header of a GGUF file: what it holds, told in a moment, so that a long conversion need not fail for it."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from horen.extras import need

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32  # where the file names none
_DIMENSIONS = 4  # the most that a tensor has


@dataclass(frozen=True)
class Header:
    """What the header of a GGUF file says.

    Attributes:
        architecture: of the model, as llama.cpp calls it.
        parameters: how many weights it has.
        has_tokenizer: whether a vocabulary is in it.
        parts: of how many files the model is made, of which this is one.
        missing: how many bytes of weights the header speaks of and the file lacks.
    """

    architecture: str
    parameters: int
    has_tokenizer: bool
    parts: int
    missing: int


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Raises:
        ValueError: it is no GGUF, or the header is damaged.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin like a GGUF file")
        try:
            return _Reader(stream).header()
        except (EOFError, UnicodeDecodeError) as error:
            raise ValueError("its header is damaged or incomplete") from error


class _Reader:
    """Reads on in a file; EOFError where that would lead past its end, as damaged counts and lengths do."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size

    def header(self) -> Header:
        version, tensors, facts = self._numbers("IQQ")
        if version not in _VERSIONS:
            wanted = " or ".join(map(str, _VERSIONS))
            raise ValueError(f"it is a GGUF of version {version}, where {wanted} was expected")
        found: dict[str, Any] = {}
        for _ in range(facts):
            key = self._string().decode()
            found[key] = self._value()
        architecture = found.get("general.architecture")
        if not isinstance(architecture, bytes):
            raise ValueError("it does not say which architecture its model has")
        parameters = end = 0
        for _ in range(tensors):
            elements, stop = self._tensor()
            parameters, end = parameters + elements, max(end, stop)
        alignment = _positive(found.get("general.alignment"), _ALIGNMENT)
        start = -(-self._stream.tell() // alignment) * alignment
        return Header(
            architecture=architecture.decode(),
            parameters=parameters,
            has_tokenizer=bool(found.get("tokenizer.ggml.tokens")),
            parts=_positive(found.get("split.count"), 1),
            missing=max(0, start + end - self._size) if tensors else 0,
        )

    def _tensor(self) -> tuple[int, int]:
        """Return how many elements the next tensor has, and where it stops in the section of weights."""
        self._string()
        (dimensions,) = self._numbers("I")
        if dimensions > _DIMENSIONS:
            raise EOFError
        elements = math.prod(self._numbers(f"{dimensions}Q"))
        kind, offset = self._numbers("IQ")
        return elements, offset + _bytes_of(kind, elements)

    def _value(self) -> Any:
        """Read the next fact; of a list only its length, since nothing that matters here is one."""
        (kind,) = self._numbers("I")
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind])[0]
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ValueError(f"its header has a value of the unknown kind {kind}")
        inner, count = self._numbers("IQ")
        if inner in _NUMBERS:
            self._skip(count * struct.calcsize(f"<{_NUMBERS[inner]}"))
        elif inner == _STRING:
            for _ in range(count):
                self._skip(self._numbers("Q")[0])
        else:
            raise ValueError(f"its header has a list of the unknown kind {inner}")
        return count

    def _string(self) -> bytes:
        return self._bytes(self._numbers("Q")[0])

    def _numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))

    def _bytes(self, count: int) -> bytes:
        data = self._stream.read(count) if count <= self._size else b""  # no room is made for a damaged length
        if len(data) < count:
            raise EOFError
        return data

    def _skip(self, count: int) -> None:
        if self._stream.tell() + count > self._size:  # seeking past the end would be no error
            raise EOFError
        self._stream.seek(count, os.SEEK_CUR)


def _positive(value: object, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default


def _bytes_of(kind: int, elements: int) -> int:
    """Return how much room a tensor takes; none for a kind that the installed gguf does not know."""
    known = need("models", "gguf.constants", "GGUF files need")

    try:
        block, size = known.GGML_QUANT_SIZES[known.GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        return 0
    return elements // int(block) * int(size)
