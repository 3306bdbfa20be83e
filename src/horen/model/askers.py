"""Those who ask, and the few changes that can only be made while nobody does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from horen.errors import ModelError


class Askers:
    """Any number of threads ask at once; what is done :meth:`alone` waits for them, and they for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}
        self._alone: int | None = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Keep what is done alone away within the block, which may stand within another one of this thread."""
        entered = False
        try:
            self.enter()
            entered = True
            yield
        finally:
            if entered:
                self.leave()

    def enter(self) -> None:
        """Begin to ask, as soon as nothing is done alone; it may be begun within an asking of this thread."""
        me = threading.get_ident()
        with self._changed:
            while self._alone not in (None, me) and me not in self._inside:
                self._changed.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def leave(self) -> None:
        """End what was begun last in this thread."""
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    def alone(self, action: Callable[[], object]) -> None:
        """Do something while nobody asks; one thread at a time may.

        Raises:
            ModelError: in a thread that is asking itself, which would wait for its own end.
        """
        me = threading.get_ident()
        try:
            with self._changed:
                if me in self._inside:
                    raise ModelError(
                        "The editor is answering in this very call (a streamer, say): restore, rekey, compact or "
                        "unwrap it when the answer is there."
                    )
                self._alone = me
                while self._inside:
                    self._changed.wait()
            action()
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()
