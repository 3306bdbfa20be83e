"""What an adapter knows of the forward call that is running, and of the prompt that a caller has said the end of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from horen.model.prompts import Placed
from horen.model.routed import Routed


class Watch(Protocol):
    """Is told where the prompts of one call go, while it is answered."""

    @property
    def least(self) -> float | None:
        """What a score must exceed for its prompt to be told of, which is less work; None tells of every prompt."""

    @property
    def surveys(self) -> bool:
        """Whether a judge tells of all that is around a prompt, too."""

    def take(self, places: Sequence[Placed], rows: int, route: Callable[[], list[Routed]]) -> list[Routed]:
        """Route prompts and return where they went, which is then how the call goes on.

        Args:
            places: the prompts.
            rows: how many the call has.
            route: routes them; it may be called again, for another state of what is stored.
        """


@dataclass
class Call:
    """What one forward call of the model still has to do.

    A prompt that is fed in chunks is routed in the last: until then activations are gathered, and ``before`` columns
    of the places were in earlier chunks. ``seen`` holds the parts of the features' source so far. ``woken`` are those
    of ``routed`` whose edits have further values. ``written`` are rows, columns and values of what is written, once
    that is settled.
    """

    places: list[Placed]
    shape: tuple[int, int]
    before: int = 0
    gathers: bool = False
    seen: list[Tensor] = field(default_factory=list)
    routed: list[Routed] = field(default_factory=list)
    wrote: bool = False
    woken: list[Routed] = field(default_factory=list)
    written: tuple[list[int], list[int], Tensor] | tuple[()] | None = None

    def again(self) -> Call:
        """Return what is done where a part of the call is computed once more.

        Nothing is read, and the same is written.
        """
        return replace(self, places=[], gathers=False, seen=[], woken=[])


@dataclass
class Boundary:
    """A caller's word that the prompt is the first ``width`` columns of all that is fed, cached tokens included.

    Attributes:
        width: those columns.
        mask: [B, width] of generate, None where there is none.
        given: [B, width] token ids of generate, those in a kept cache included; None where they are not known.
        current: [B, S] token ids of all rows as generate has them at this step.
        partial: whether generate was given what comes after a kept cache alone.
        answering: whether all that is fed is one answer in the making, in which no prompt changes its edit.
        revision: of what was stored when prompts were routed.
        memo: where they went.
        watch: who is told of it.
    """

    width: int
    mask: Tensor | None = None
    given: Tensor | None = None
    current: Tensor | None = None
    partial: bool = False
    answering: bool = False
    ids: list[Tensor] = field(default_factory=list)
    states: list[list[Tensor]] = field(default_factory=list)
    revision: int = -1
    memo: dict[tuple[int, tuple[int, ...]], Routed | None] = field(default_factory=dict)
    watch: Watch | None = None

    def routes(self, revision: int) -> dict[tuple[int, tuple[int, ...]], Routed | None]:
        """Return where prompts went, as far as that holds with what is stored now."""
        if self.revision != revision and not (self.answering and self.memo):
            self.memo.clear()
            self.revision = revision
        return self.memo


@dataclass(frozen=True)
class Feeding:
    """What a forward call is given: its ids [B, S], the cache, and how many columns that holds already."""

    ids: Tensor | None
    cache: Any
    cached: int


class State(threading.local):
    """What is going on in a thread; ``watch`` is for the next call of the model's generate."""

    call: Call | None = None
    boundary: Boundary | None = None
    feeding: Feeding | None = None
    disabled: int = 0
    running: bool = False
    watch: Watch | None = None

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Begin anew within the block, whatever the thread is in the middle of."""
        kept = dict(self.__dict__)
        self.__dict__.clear()
        try:
            yield
        finally:
            self.__dict__.clear()
            self.__dict__.update(kept)


def key_of(place: Placed) -> tuple[int, tuple[int, ...]]:
    """Return what a prompt's route depends on."""
    return place.prompt.at, place.ids[: place.prompt.at + 1]
