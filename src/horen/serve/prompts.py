"""The prompts that are asked most, in memory alone: what a draft is tried on before it is published."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

from horen.edits import same_text

_LONGEST = 2_000


class Prompts:
    """Keeps how often each prompt was asked of late.

    Of more prompts than are kept, those that were not asked for the longest time are dropped. Nothing is kept of
    longer ones, nor where ``most`` is 0.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = 2_000) -> None:
        self._most, self._lock = most, threading.Lock()
        self._asked: OrderedDict[str, int] = OrderedDict()

    def note(self, prompt: str) -> None:
        """Count a prompt; any thread may call this."""
        text = same_text(prompt)
        if not self._most or not text or len(text) > _LONGEST:
            return
        with self._lock:
            self._asked[text] = self._asked.pop(text, 0) + 1
            if len(self._asked) > self._most:
                self._asked.popitem(last=False)

    def frequent(self, most: int = 50) -> tuple[str, ...]:
        """Return the prompts that were asked most, the most frequent first; of equals the latest."""
        with self._lock:
            latest_first = Counter(dict(reversed(self._asked.items())))
        return tuple(text for text, _ in latest_first.most_common(most))
