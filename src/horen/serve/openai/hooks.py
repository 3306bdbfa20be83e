"""What the rest of the service does for a request, and is told of its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from horen.errors import ConfigError
from horen.serve.engines.interface import Fired, Wanted
from horen.serve.openai.requests import WantedBody


@dataclass(frozen=True)
class Answered:
    """An answer that is finished.

    Attributes:
        id: of the request; several answers may have it.
        model: that was asked.
        prompt: the last that a user said, or the text that was continued.
        wanted: which edits might answer.
        principal: who asked.
        fired: the edit that answered; None where none did.
        finish: "stop" or "length".
        prompt_tokens: of the prompt.
        completion_tokens: of the answer.
        began: when the request came, in seconds since 1970.
        first: seconds from then to the first part of the answer.
        seconds: to its end.
    """

    id: str
    model: str
    prompt: str
    wanted: Wanted
    principal: Any
    fired: Fired | None
    finish: str
    prompt_tokens: int
    completion_tokens: int
    began: float
    first: float
    seconds: float


#: Turns what a request says of edits into their ids; given the principal, too.
Resolve: TypeAlias = Callable[[WantedBody, Any], Awaitable[Wanted]]
#: Is told of each finished answer, on the event loop: it must not wait for anything.
Tell: TypeAlias = Callable[[Answered], None]


async def without_store(wanted: WantedBody, principal: Any) -> Wanted:  # noqa: ARG001
    """Return what is wanted where edits have ids alone.

    Raises:
        ConfigError: for tags and sets.
    """
    for name in ("tags", "without_tags", "without_sets"):
        if getattr(wanted, name):
            raise ConfigError(
                f"horen.{name} is given, and the edits here have neither tags nor sets: name edits by their ids, with "
                "only and without."
            )
    only = None if wanted.only is None else frozenset(wanted.only)
    return Wanted(wanted.edits == "on", wanted.version, only, frozenset(wanted.without))


def untold(answered: Answered) -> None:
    """Tell nobody."""
