"""What a caller wants of edits for one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Among:
    """Which edits may answer.

    Attributes:
        only: ids of those that may; None for all that are active.
        without: ids of those that may not.
    """

    only: frozenset[int] | None = None
    without: frozenset[int] = frozenset()

    def has(self, number: int) -> bool:
        """Return whether the edit of an id may answer."""
        return number not in self.without and (self.only is None or number in self.only)

    def packed(self) -> list[list[int] | None]:
        """Return it as MessagePack takes it; the same for equal ones."""
        return [None if self.only is None else sorted(self.only), sorted(self.without)]

    @classmethod
    def unpacked(cls, given: Sequence[Sequence[int] | None]) -> Among:
        """Return what :meth:`packed` gave."""
        only, without = given
        return cls(None if only is None else frozenset(only), frozenset(without or ()))


#: Every edit that is active.
ALL = Among()


@dataclass(frozen=True)
class Wish:
    """What a caller wants of edits for one request.

    Attributes:
        on: whether an edit may answer.
        version: of the codebook; None for what it is now.
        among: the edits that may answer.
    """

    on: bool = True
    version: int | None = None
    among: Among = ALL
