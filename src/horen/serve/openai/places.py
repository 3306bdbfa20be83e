"""How many answers are made at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from horen.errors import ConfigError
from horen.serve.refusals import RefusalError


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, and all of them together.

    Attributes:
        answers: to one request: its prompts times ``n``.
        at_once: answers that are made or wait; whoever asks for more is told to come again.
        retry: seconds after which to come again.

    Raises:
        ConfigError: where a request of so many answers would never be taken.
    """

    answers: int = 128
    at_once: int = 256
    retry: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.answers <= self.at_once:
            raise ConfigError(
                f"answers={self.answers} with at_once={self.at_once} cannot be kept: allow 1 or more answers to "
                "a request, and at least as many at once."
            )


class Places:
    """The places of answers that are made or wait.

    Args:
        limits: how many there are.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self.taken = limits, 0

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Have places within the block.

        Args:
            count: how many.

        Raises:
            RefusalError: when there are not so many.
        """
        if self.taken + count > self._limits.at_once:
            raise RefusalError(
                429,
                f"{self.taken} answers are being made, and {self._limits.at_once} may be: ask again a little later.",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(self._limits.retry)},
            )
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count
