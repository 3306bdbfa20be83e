"""Whether a service runs or ends, and what still runs in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Life:
    """Counts what runs, and tells when the service ends; any thread may ask.

    Attributes:
        streams: how many streams of events are open; the event loop's alone.
    """

    def __init__(self) -> None:
        self._leaving, self._ending = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._running = 0
        self.streams = 0

    @property
    def leaving(self) -> bool:
        """Whether the service says that it is not ready, so that a balancer sends requests elsewhere."""
        return self._leaving.is_set()

    @property
    def ending(self) -> bool:
        """Whether the service takes no more questions, and what waits for news shall end."""
        return self._ending.is_set()

    @property
    def running(self) -> int:
        """How many prompts are being answered."""
        return self._running

    def leave(self) -> None:
        """Say that the service will end; it takes requests as before."""
        self._leaving.set()

    def end(self) -> None:
        """Say that the service ends."""
        self._leaving.set()
        self._ending.set()

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Count a prompt for as long as it is answered."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    async def finished(self, seconds: float) -> bool:
        """Wait until no prompt is being answered; return whether that was so before the time was over."""
        end = time.monotonic() + seconds
        while self._running and time.monotonic() < end:
            await asyncio.sleep(0.05)
        return not self._running
