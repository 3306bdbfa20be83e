"""Values as they are stored: in fewer bytes where that is wanted, and read back when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory.table import Table

_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
_LEVELS = 127
# Least and greatest scale: the least that is a normal number, and one by which 127 is still finite.
_LEAST, _MOST = 2.0**-126, 2.0**121


@dataclass(frozen=True)
class Packed:
    """Values as they are stored.

    Attributes:
        numbers: [m, P] in the type of their storage.
        scales: [m, s] bfloat16, one for each P / s numbers; s is 0 where numbers stand for themselves.
    """

    numbers: Tensor
    scales: Tensor

    @classmethod
    def of(cls, numbers: Tensor, scales: Tensor | None = None) -> Packed:
        """Take saved tables, [m, P] and [m, s]; without scales the numbers stand for themselves."""
        return cls(numbers, numbers.new_empty((len(numbers), 0), dtype=torch.bfloat16) if scales is None else scales)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, places: Sequence[int]) -> Packed:
        """Return some of the values, no others of which are touched."""
        index = list(places)
        return Packed(self.numbers[index], self.scales[index])

    @property
    def nbytes(self) -> int:
        """Bytes of numbers and scales."""
        return self.numbers.nbytes + self.scales.nbytes

    def floats(self) -> Tensor:
        """Return [m, P] float32: what the stored values are."""
        numbers, count = self.numbers.float(), self.scales.shape[-1]
        if not count:
            return numbers
        return (_blocks(numbers, count) * self.scales.float()[..., None]).flatten(-2)

    def to(self, device: torch.device) -> Packed:
        """Return the same on a device."""
        return Packed(self.numbers.to(device), self.scales.to(device))


@dataclass(frozen=True)
class Storage:
    """In which numbers values are stored.

    int8 is symmetric: a block of numbers is c n with n in −127 … 127 and c = max|v| / 127. A scale c has the eight
    significant bits of bfloat16, so that c n is a float32 exactly and the greatest n is always 127. Therefore what was
    read is stored as the very same bits, whatever the storage. Numbers too large for a type become its largest.

    Attributes:
        name: "float32", "float16", "bfloat16" or "int8".
        blocks: parts of equal length of a value, each of which has a scale of its own in int8.
    """

    name: str = "float32"
    blocks: int = 1

    @property
    def dtype(self) -> torch.dtype:
        """Type of the stored numbers."""
        return _TYPES[self.name]

    @property
    def exact(self) -> bool:
        """Whether every value is stored as it is."""
        return self.name == "float32"

    @property
    def scales(self) -> int:
        """How many scales are stored with a value."""
        return self.blocks if self.name == "int8" else 0

    def fits(self, packed: Packed) -> bool:
        """Return whether tables are of this storage."""
        numbers, scales = packed.numbers, packed.scales
        return (numbers.dtype, scales.dtype, *scales.shape) == (self.dtype, torch.bfloat16, len(packed), self.scales)

    def pack(self, values: Tensor) -> Packed:
        """Return [m, P] float32 values as they are stored."""
        if self.exact:
            return Packed.of(values)
        if not self.scales:
            most = torch.finfo(self.dtype).max
            return Packed.of(values.clamp(-most, most).to(self.dtype))
        blocks = _blocks(values, self.scales)
        scales = (blocks.abs().amax(-1) / _LEVELS).clamp(_LEAST, _MOST).to(torch.bfloat16)
        numbers = (blocks / scales.float()[..., None]).round().clamp(-_LEVELS, _LEVELS)
        return Packed(numbers.to(torch.int8).flatten(-2), scales)

    def rounded(self, values: Tensor) -> Tensor:
        """Return [m, P] float32: what becomes of values that are stored."""
        return values if self.exact else self.pack(values).floats()


def _blocks(numbers: Tensor, count: int) -> Tensor:
    return numbers.reshape(len(numbers), count, numbers.shape[-1] // count)


class Values:
    """A growing table of values; one thread writes and others may read, as with :class:`horen.memory.table.Table`.

    Args:
        dimension: P.
        storage: how they are stored.
        device: where they live.
    """

    def __init__(self, dimension: int, storage: Storage, device: torch.device) -> None:
        self._storage = storage
        self._numbers = Table((dimension,), storage.dtype, device)
        self._scales = Table((storage.scales,), torch.bfloat16, device)
        self._publish()

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, values: Tensor) -> None:
        """Store [n, P] float32 values."""
        self._add(self._storage.pack(values))

    def extend(self, rows: Packed) -> None:
        """Add values as they are stored.

        Raises:
            RuntimeError: when they are of another shape or storage.
        """
        self._check(rows)
        self._add(rows)

    def _add(self, rows: Packed) -> None:
        self._numbers.append(rows.numbers)
        self._scales.append(rows.scales)
        self._publish()

    def adopt(self, rows: Packed) -> None:
        """Take the place of nothing by rows as they are, without a copy; they must not change from now on.

        Raises:
            RuntimeError: when the table holds rows, or these are of another shape or storage.
        """
        self._check(rows)
        self._numbers.adopt(rows.numbers)
        self._scales.adopt(rows.scales)
        self._publish()

    def _check(self, rows: Packed) -> None:
        if not self._storage.fits(rows):
            raise RuntimeError(f"the values are not stored as {self._storage.name}")

    def truncate(self, length: int) -> None:
        """Forget the values from ``length`` on."""
        self._numbers.truncate(length)
        self._scales.truncate(length)
        self._publish()

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self._numbers.to(device)
        self._scales.to(device)
        self._publish()

    def _publish(self) -> None:
        # Together, so that no reader takes one value's numbers and another's scale.
        self.rows = Packed(self._numbers.rows, self._scales.rows)


def delta(values: Tensor, hidden: Tensor) -> Tensor:
    """Return what values add to hidden states: v itself, or B A h for a low-rank map.

    Args:
        values: [B, d_v] vectors, or [B, 2·r·d_v] low-rank maps laid out as [B, r, 2, d_v] with A first.
        hidden: [B, d_v] outputs of the write site at the prompts' last tokens.
    """
    size = hidden.shape[-1]
    if values.shape[-1] == size:
        return values
    maps = values.reshape(len(values), -1, 2, size)
    inner = torch.einsum("brd,bd->br", maps[:, :, 0], hidden)
    return torch.einsum("brd,br->bd", maps[:, :, 1], inner)
