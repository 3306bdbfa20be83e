"""Keys as integers, stored or copied: they find candidates at a quarter of the bytes and say how far they err."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory.keys import Int8Keys, Keys
from horen.memory.table import Table

# From so many keys on the second copy pays; below, a pass over the keys themselves is a matter of microseconds.
FROM = 1 << 14
# What rounding leaves of a unit key that is made of integers.
_ROUNDED = 4 * torch.finfo(torch.float32).eps
# Rows that are made into integers at a time.
_ROWS = 1 << 10
# Processors multiply up to so many rows faster one by one.
_FEW = 2
# Without instructions for bytes, products of more rows at once are faster in float32.
_MOST = 32


class Sketch:
    """Unit keys as integers in −127 … 127 times a scale for each key: k ≈ k̂ = c n, c = max|k| / 127.

    This int8 copy belongs to one growing table of keys. It takes in what is new when it is asked, so each key is
    converted once. Safe while other threads ask.

    Args:
        dimension: d of the keys.
    """

    def __init__(self, dimension: int) -> None:
        cpu = torch.device("cpu")
        self._integers = Table((dimension,), torch.int8, cpu)
        self._scales = Table((), torch.float32, cpu)
        self._worst = 0.0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of integers and scales."""
        return self._integers.rows.nbytes + self._scales.rows.nbytes

    def take(self, keys: Tensor) -> SketchedKeys:
        """Return the int8 copy of [N, d] float32 keys on the CPU, of which it may know the first so many already."""
        with self._lock:
            for start in range(len(self._scales), len(keys), _ROWS):
                integers, scales, error = to_integers(keys[start : start + _ROWS])
                self._integers.append(integers)
                self._scales.append(scales)
                self._worst = max(self._worst, error)
            return SketchedKeys(self._integers.rows[: len(keys)], self._scales.rows[: len(keys)], self._worst)


@dataclass(frozen=True)
class Rough:
    """Approximate products of B queries and N keys.

    Attributes:
        products: gives [B, n] float32 for a part of the keys.
        error: [B, 1] float32, how far they may be off.
    """

    products: Callable[[slice], Tensor]
    error: Tensor


class SketchedKeys:
    """What integers say of the first N keys: those of an int8 copy, or those that the keys are stored as.

    Attributes:
        integers: [N, d] int8.
        scales: [N] float32.
        worst: the greatest ‖k − k̂‖.
    """

    def __init__(self, integers: Tensor, scales: Tensor, worst: float) -> None:
        self.integers, self.scales, self.worst = integers, scales, worst

    @classmethod
    def stored(cls, keys: Int8Keys) -> SketchedKeys:
        """Return what keys say that are integers themselves: no copy is made, and nothing but rounding is lost."""
        return cls(keys.numbers, keys.scales, _ROUNDED)

    def __len__(self) -> int:
        return len(self.scales)

    def pays(self, queries: int) -> bool:
        """Return whether products of so many queries are made faster from it than from the keys."""
        multiplier = _multiplier()
        return multiplier is not None and queries <= multiplier.most

    def asked(self, queries: Tensor) -> Rough:
        """Return products with [B, d] queries.

        |k·q − k̂·q̂| ≤ ‖k − k̂‖ ‖q‖ + ‖k̂‖ ‖q − q̂‖ by Cauchy and Schwarz, for every key.
        """
        integers, scales, _ = to_integers(queries)
        scales = scales[:, None]
        lost = (queries - integers * scales).norm(dim=-1, keepdim=True)

        multiplier = _multiplier()
        if multiplier is None:
            raise RuntimeError("This processor does not multiply bytes fast: see supported().")
        sums = multiplier.sums

        def products(part: slice) -> Tensor:
            return (sums(integers, self.integers[part]) * self.scales[part]).mul_(scales)

        return Rough(products, self.worst * queries.norm(dim=-1, keepdim=True) + (1 + self.worst) * lost)


class SeenKeys:
    """What true products of other queries with N keys say of queries near to them.

    Args:
        queries: [B, d] unit rows.
        scores: [B, N], their products with the keys.
    """

    def __init__(self, queries: Tensor, scores: Tensor) -> None:
        self._queries, self._scores = queries, scores

    def __len__(self) -> int:
        return self._scores.shape[1]

    def pays(self, _queries: int) -> bool:
        """Return true: the products are there already."""
        return True

    def of(self, rows: Tensor) -> SeenKeys:
        """Return what is known of some of the queries, [b] int64."""
        return self if len(rows) == len(self._queries) else SeenKeys(self._queries[rows], self._scores[rows])

    def asked(self, queries: Tensor) -> Rough:
        """Return products with the [B, d] queries that those of before have become.

        |k·q' − c k·q| ≤ ‖q' − c q‖, where c = q·q'.
        """
        shares = (self._queries * queries).sum(-1, keepdim=True)
        error = (queries - shares * self._queries).norm(dim=-1, keepdim=True)
        return Rough(lambda part: self._scores[:, part] * shares, error)


def to_integers(rows: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return [n, d] int8, [n] scales and the greatest error of a row."""
    scales = (rows.abs().amax(-1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    integers = (rows / scales[:, None]).round_()
    error = torch.addcmul(rows, integers, scales[:, None], value=-1).norm(dim=-1).amax()
    return integers.to(torch.int8), scales, float(error)


def fits(keys: Keys) -> bool:
    """Return whether these keys can be read fast as integers.

    Torch multiplies columns of one number wrongly.
    """
    return keys.device.type == "cpu" and keys.dtype == torch.float32 and keys.shape[1] > 1 and supported()


def supported() -> bool:
    """Return whether bytes are multiplied fast here, and exactly."""
    return _multiplier() is not None


@dataclass(frozen=True)
class _Multiplier:
    """A way to multiply bytes.

    Attributes:
        sums: products [B, n] int32 of [B, d] and [n, d] int8.
        most: B up to which they are faster than products of float32.
    """

    sums: Callable[[Tensor, Tensor], Tensor]
    most: float


@functools.cache
def _multiplier() -> _Multiplier | None:
    """Return the first of the ways that is there and exact."""
    # Sums of products of extreme bytes overflow where they are made in sixteen bits.
    rows = torch.full((3, 64), 127, dtype=torch.int8)
    rows[1] = -128
    expected = rows.int() @ rows.int().T
    for way in _ways():
        try:
            if torch.equal(way.sums(rows, rows), expected) and torch.equal(way.sums(rows[:2], rows), expected[:2]):
                return way
        # Whatever a build of torch or a compiler has to say: there is another way.
        except Exception:  # noqa: S112
            continue
    return None


def _ways() -> Iterator[_Multiplier]:
    fast = getattr(torch.cpu, "_is_vnni_supported", None)
    if fast is not None and fast() and hasattr(torch, "_int_mm"):
        yield _Multiplier(_torch_sums, float("inf"))
    try:
        kernel = importlib.import_module("horen.memory.search.cpu_kernel")
    except ImportError:
        return
    yield _Multiplier(kernel.sums, _MOST)


def _torch_sums(rows: Tensor, table: Tensor) -> Tensor:
    if len(rows) > _FEW:
        return torch._int_mm(rows, table.T)
    return torch.cat([torch._int_mm(row[None], table.T) for row in rows])
