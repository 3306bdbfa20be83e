"""Whether a service runs or ends, and what still runs in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Life:
    """Counts what runs, and tells when the service ends; any thread may ask."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._running = 0
        self.streams = 0

    @property
    def ending(self) -> bool:
        """Whether the service ends: it is not ready any more, and what waits for news shall end."""
        return self._ending.is_set()

    @property
    def running(self) -> int:
        """How many answers are being given."""
        return self._running

    def end(self) -> None:
        """Say that the service ends."""
        self._ending.set()

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Count an answer for as long as it is given."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    async def finished(self, seconds: float) -> bool:
        """Wait until no answer is being given; return whether that was so before the time was over."""
        end = time.monotonic() + seconds
        while self._running and time.monotonic() < end:
            await asyncio.sleep(0.05)
        return not self._running
