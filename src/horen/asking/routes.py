"""Being told of the routes that calls of the model take, and having prompts routed for the telling alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from horen.model.batching import batches
from horen.model.prompts import Placed
from horen.model.routed import Routed
from horen.session import Session

_BATCH = 32
T = TypeVar("T")
#: What is told of prompts by their number, given where they went. What is stored does not change meanwhile.
Tell = Callable[[Mapping[int, Routed]], Mapping[int, T]]


class Telling(Generic[T]):
    """Keeps what is told of the prompts of one call: :class:`horen.model.calls.Watch`.

    Args:
        session: whose model is called.
        numbers: of the prompts, in the order of the call's rows.
        tell: says what is told.
        least: see :class:`horen.model.calls.Watch`.
        surveys: see there.
    """

    def __init__(
        self, session: Session, numbers: Sequence[int], tell: Tell[T], *, least: float | None, surveys: bool
    ) -> None:
        self._session, self._numbers, self._tell = session, numbers, tell
        self.least, self.surveys = least, surveys
        #: What was told, by number.
        self.found: dict[int, T] = {}
        self._settled: set[int] = set()

    def take(self, places: Sequence[Placed], rows: int, route: Callable[[], list[Routed]]) -> list[Routed]:
        """Route prompts and note what is told of them, both in one state of what is stored.

        The first route of a row counts. What is fed later is no prompt of the caller's (classifier-free guidance).
        """
        each = max(rows // len(self._numbers), 1)  # beams of one prompt lie side by side

        def look() -> tuple[list[Routed], Mapping[int, T]]:
            routed, fresh = route(), dict[int, Routed]()
            for one in routed:
                row = one.place.row // each
                if row < len(self._numbers) and row not in self._settled:
                    fresh.setdefault(self._numbers[row], one)
            return routed, self._tell(fresh)

        routed, told = self._session.codebook().settled(look)
        self._settled |= {place.row // each for place in places}
        self.found |= told
        return routed


def looked_up(
    session: Session,
    rows: Sequence[Sequence[int]],
    tell: Tell[T],
    *,
    least: float | None = None,
    surveys: bool = False,
) -> list[T | None]:
    """Return what is told of rows of token ids, where a call of the model would route them.

    None is told of all while nothing is stored and, with ``least``, of some that score no more.
    """
    adapter, found = session.adapter, dict[int, T]()
    for batch in batches(rows, _BATCH):
        telling = Telling(session, batch, tell, least=least, surveys=surveys)
        adapter.look([rows[i] for i in batch], telling)
        found |= telling.found
    return [found.get(i) for i in range(len(rows))]
