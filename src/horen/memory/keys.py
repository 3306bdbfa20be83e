"""Keys as they are stored: as they were made, or in a byte a number. What is stored is the key; all follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory.table import Table

_TYPES = {"float32": torch.float32, "int8": torch.int8}
_LEVELS = 127
# Rows whose lengths are measured at a time, so that no wider copy of all is made.
_ROWS = 1 << 12


class Int8Keys:
    """Unit keys as integers: key i is nᵢ / ‖nᵢ‖, with nᵢ in −127 … 127.

    It is read like a float32 table, of whose rows only those are made that are asked for. A row has the same bits
    whatever it is asked for with.

    Attributes:
        numbers: [N, d] int8.
        scales: [N] float32, 1 / ‖nᵢ‖.
    """

    def __init__(self, numbers: Tensor, scales: Tensor) -> None:
        self.numbers, self.scales = numbers, scales

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return float32 unit keys [..., d] of some rows: a slice, or an index or a mask of any shape [...]."""
        return self.numbers[rows].float().mul_(self.scales[rows][..., None])

    @property
    def shape(self) -> torch.Size:
        """N and d."""
        return self.numbers.shape

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self.numbers.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the keys that are read: float32."""
        return torch.float32

    @property
    def nbytes(self) -> int:
        """Bytes of numbers and scales."""
        return self.numbers.nbytes + self.scales.nbytes


#: [N, d] unit keys: a float tensor, or integers that are read like one.
Keys = Tensor | Int8Keys


@dataclass(frozen=True)
class KeyStorage:
    """In which numbers keys are stored.

    In int8 a key k becomes n = round(k / c) with c = max|k| / 127, and is n / ‖n‖ from then on: a unit vector again,
    with no scale to be stored. Its greatest number is ±127, so what was read is stored as the very same integers. No
    number is stored as 0, and what holds one is refused before.

    Attributes:
        name: "float32" or "int8".
    """

    name: str = "float32"

    @property
    def dtype(self) -> torch.dtype:
        """Type of the stored numbers."""
        return _TYPES[self.name]

    @property
    def exact(self) -> bool:
        """Whether every key is stored as it is."""
        return self.name == "float32"

    def pack(self, keys: Tensor) -> Tensor:
        """Return [n, d] float32 unit keys as they are stored."""
        if self.exact:
            return keys
        steps = (keys.abs().amax(-1, keepdim=True) / _LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
        return (keys / steps).round_().clamp_(-_LEVELS, _LEVELS).nan_to_num_(0).to(torch.int8)

    def read(self, numbers: Tensor) -> Tensor:
        """Return [n, d] float32: the keys that stored numbers are."""
        return numbers.float() if self.exact else Int8Keys(numbers, scales_of(numbers))[:]

    def rounded(self, keys: Tensor) -> Tensor:
        """Return [n, d] float32: what becomes of keys that are stored; no number stays none."""
        if self.exact:
            return keys
        return self.read(self.pack(keys)).masked_fill_(~keys.isfinite().all(-1, keepdim=True), torch.nan)


def scales_of(numbers: Tensor) -> Tensor:
    """Return 1 / ‖n‖, [N] float32, of [N, d] int8 rows; of a row of zeros 1."""
    # Whole numbers are summed exactly in any order while there are floats for all of them, and roots and quotients are
    # rounded alike everywhere. Each piece is one buffer: allocating more of them takes longer than the sums.
    exact = torch.float32 if numbers.shape[1] << 14 < 1 << 24 else torch.float64
    found = torch.empty(len(numbers), device=numbers.device)
    for start in range(0, len(numbers), _ROWS):
        squares = numbers[start : start + _ROWS].to(exact).square_().sum(-1)
        found[start : start + _ROWS] = squares.clamp_min_(1).float().sqrt_().reciprocal_()
    return found


class KeyTable:
    """A growing table of keys; one thread writes and others may read, as with :class:`horen.memory.table.Table`.

    Args:
        dimension: d.
        storage: how they are stored.
        device: where they live.
    """

    def __init__(self, dimension: int, storage: KeyStorage, device: torch.device) -> None:
        self._storage = storage
        self._numbers = Table((dimension,), storage.dtype, device)
        self._scales = Table((), torch.float32, device)

    @property
    def numbers(self) -> Tensor:
        """A view of what is stored, [N, d]."""
        return self._numbers.rows

    @property
    def rows(self) -> Keys:
        """The keys, [N, d], nothing copied."""
        # Scales are written first, so there is one for every row of the numbers.
        numbers = self._numbers.rows
        return numbers if self._storage.exact else Int8Keys(numbers, self._scales.rows[: len(numbers)])

    def append(self, keys: Tensor) -> None:
        """Store [n, d] float32 unit keys."""
        self._add(self._storage.pack(keys))

    def extend(self, numbers: Tensor) -> None:
        """Add [n, d] numbers of keys as they are stored.

        Raises:
            RuntimeError: when they are of another storage.
        """
        self._check(numbers)
        self._add(numbers)

    def _add(self, numbers: Tensor) -> None:
        if not self._storage.exact:
            self._scales.truncate(len(self._numbers))  # what an interruption left of the one before
            self._scales.append(scales_of(numbers))
        self._numbers.append(numbers)

    def adopt(self, numbers: Tensor) -> None:
        """Take the place of nothing by stored numbers as they are, without a copy; they must not change from now on.

        Raises:
            RuntimeError: when the table holds rows, or these are of another shape or storage.
        """
        self._check(numbers)
        self._numbers.adopt(numbers)
        if not self._storage.exact:
            self._scales.adopt(scales_of(numbers))

    def _check(self, numbers: Tensor) -> None:
        if numbers.dtype != self._storage.dtype:
            raise RuntimeError(f"the keys are not stored as {self._storage.name}")

    def truncate(self, length: int) -> None:
        """Forget the keys from ``length`` on."""
        self._numbers.truncate(length)
        if not self._storage.exact:
            self._scales.truncate(length)

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self._scales.to(device)
        self._numbers.to(device)
