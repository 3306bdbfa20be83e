"""The one way from the memory to the room ``search/``, which gives the same answers faster.

Where that room is missing, everything here is the plain way of :mod:`horen.memory.plain`. It is looked for when it is
first needed, because its modules know the memory's, and nothing else of the memory names one of them.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor

from horen.memory import plain
from horen.memory.keys import Keys
from horen.memory.plain import Attempt

_ROOM = "horen.memory.search"


class SmallCopy(Protocol):
    """Keys in eight bits a number, which are read in their place and change no answer."""

    def __len__(self) -> int:
        """Return how many keys there are."""


class Proposals(Protocol):
    """What an index says of one reader's keys, and may miss."""

    def propose(self, queries: Tensor, count: int) -> Tensor:
        """Return the numbers [B, count] int64 of keys near [B, d] queries, in no order.

        Where there are not so many, the rest are −1.
        """


class Index(Protocol):
    """What proposes candidates among very many keys of one table."""

    @property
    def nbytes(self) -> int:
        """Bytes of it."""


class Copies(Protocol):
    """What there is beside the keys of one growing table."""

    @property
    def index(self) -> Index | None:
        """What proposes candidates; None where all keys are searched."""

    def using(self, index: Index) -> Copies:
        """Return the same with an index."""

    def fresh(self) -> Copies:
        """Return copies of the same kind that know no key."""

    def beside(self, keys: Keys) -> tuple[SmallCopy | None, Proposals | None]:
        """Return what a search has beside [N, d] keys: an int8 copy of them or, where there are very many, an index."""

    def sketched(self, keys: Keys) -> SmallCopy | None:
        """Return the int8 copy of the keys, where one pays."""


@functools.cache
def room() -> ModuleType | None:
    """Return the room; None where it is missing."""
    try:
        return importlib.import_module(_ROOM)
    except ModuleNotFoundError as error:
        if error.name != _ROOM:
            raise
        return None


def part(name: str) -> Any:
    """Return something that the room gives to the memory, by its name; None where the room is missing."""
    there = room()
    return None if there is None else getattr(there, name)


def readout(
    queries: Tensor, keys: Keys, *, beta: float, awake: Tensor | None = None, scores: Tensor | None = None
) -> Tensor:
    """Return r = normalize(Kᵀ softmax(β K q)).

    Args:
        queries: [B, d] unit rows.
        keys: [N, d] unit rows of the same dtype, or stored in another and read in it.
        beta: inverse temperature, ≥ 0.
        awake: [N] bool, the keys that take part (at least one); None for all.
        scores: [B, N] of the queries' dtype, contiguous, where K q is written, of keys that sleep too; or None.

    Returns:
        [B, d] unit rows.
    """
    make = part("readout") or plain.readout
    read: Tensor = make(queries, keys, beta=beta, awake=awake, scores=scores)
    return read


def table(queries: Tensor, keys: Keys) -> Tensor | None:
    """Return [B, N] for the products of the last step, where a search gains by them; else None."""
    make = part("table")
    empty: Tensor | None = None if make is None else make(queries, keys)
    return empty


def attempts(
    queries: Tensor,
    keys: Keys,
    wanted: int,
    *,
    awake: Tensor | None = None,
    sketch: SmallCopy | None = None,
    index: Proposals | None = None,
    seen: tuple[Tensor, Tensor] | None = None,
) -> Iterator[Attempt]:
    """Yield ways to rank keys for some of the queries, each of which knows more of the nearest than the one before it.

    Args:
        queries: [B, d] float32 unit rows.
        keys: [N, d] float32 unit rows, N ≥ 1.
        wanted: how many of the nearest shall be known.
        awake: [N] bool, the keys that take part; None for all.
        sketch: an int8 copy of the keys, read in their place; the answer is the same.
        index: what proposes candidates in the place of both, and may miss some.
        seen: [B, d] queries near to these and [B, N] their products with all keys.
    """
    make = part("attempts")
    if make is None:
        return plain.attempts(queries, keys, awake=awake)
    found: Iterator[Attempt] = make(queries, keys, wanted, awake=awake, sketch=sketch, index=index, seen=seen)
    return found


def copies(dimension: int) -> Copies | None:
    """Return copies of the keys of one table, none of which is made yet; None where nobody reads them."""
    make = part("Copies")
    made: Copies | None = None if make is None else make(dimension)
    return made
