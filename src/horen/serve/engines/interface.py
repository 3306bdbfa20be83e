"""What the service asks of an engine, and what comes back; knows neither HTTP nor any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Wanted:
    """Which edits may answer a request.

    Attributes:
        on: whether any may.
        version: of the codebook; None for what it is now.
        only: ids of the edits that may; None for all that are active.
        without: ids of edits that may not.
    """

    on: bool = True
    version: int | None = None
    only: frozenset[int] | None = None
    without: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and when an answer ends.

    Attributes:
        max_tokens: at most so many; None for as many as the context holds.
        temperature: 0 takes the likeliest token.
        top_p: the likeliest tokens that have this probability together.
        seed: of the draws of this request alone; None for any.
        stop: texts before which an answer ends.
        logprobs: how many alternatives are told with each token; None where no log-probabilities are.
        n: how many answers.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    n: int = 1


@dataclass(frozen=True)
class Request:
    """One prompt, as token ids.

    Attributes:
        id: unlike that of any other request.
        prompt: token ids, at least one.
        sampling: see :class:`Sampling`.
        wanted: see :class:`Wanted`.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    wanted: Wanted = Wanted()


@dataclass(frozen=True)
class Fired:
    """The edit that answers.

    Attributes:
        edit: its id.
        score: with which it fired.
        version: of the codebook that the prompt was routed by.
    """

    edit: int
    score: float
    version: int


@dataclass(frozen=True)
class Token:
    """A token of an answer, where log-probabilities are asked for.

    Attributes:
        text: what it says; a part of a character is the replacement character.
        logprob: natural logarithm of its probability.
        likeliest: text and log-probability of the likeliest tokens, the likeliest first.
    """

    text: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """A further part of one answer.

    Attributes:
        index: number of the answer, from 0 below ``n``.
        text: that is new; it never has a stop text in it, nor half a character.
        count: how many tokens the answer has by now.
        tokens: those that are new, where log-probabilities are asked for.
        finish: "stop" or "length" with the last piece, else None.
        fired: with every piece, the edit that answers; None where none does.
    """

    index: int
    text: str
    count: int
    tokens: tuple[Token, ...] = ()
    finish: str | None = None
    fired: Fired | None = None


@dataclass(frozen=True)
class Health:
    """How an engine is.

    Attributes:
        ready: whether it answers.
        running: how many requests it works at.
        waiting: how many wait for it.
        version: of the codebook that it answers with now; None where it has none.
        why: what is wrong where it is not ready.
    """

    ready: bool
    running: int = 0
    waiting: int = 0
    version: int | None = None
    why: str = ""


class Engine(Protocol):
    """Answers prompts, several at once.

    Attributes:
        model: the name under which it is asked.
        context: how many tokens a prompt and its answer have together at most.
    """

    model: str
    context: int

    def ask(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the parts of the answers as they come; whoever stops iterating ends the request.

        Raises:
            ConfigError: for what this engine cannot do, or a version that is not there; before the first piece.
            ModelError: when the engine fails.
        """
        ...

    async def health(self) -> Health:
        """Return how the engine is."""
        ...

    async def close(self) -> None:
        """End what runs, and give back what is held."""
        ...
