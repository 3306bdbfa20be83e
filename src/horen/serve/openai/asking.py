"""One request's way through an engine: its answers as they come, and what is told of them when they are there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from horen.errors import ModelError
from horen.serve.engines.interface import Fired, Piece, Request, Sampling, Token, Wanted
from horen.serve.openai.hooks import Answered, Tell
from horen.serve.openai.prompts import Prompt, Served
from horen.serve.openai.route import ended

_log = logging.getLogger(__name__)
# So many parts may wait for a client that reads slowly; then the engine waits.
_AHEAD = 64


@dataclass
class Answer:
    """One answer, as far as it is there."""

    index: int
    prompt: Prompt
    texts: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    count: int = 0
    offset: int = 0
    first: float | None = None
    finish: str | None = None
    fired: Fired | None = None

    @property
    def text(self) -> str:
        """What it says."""
        return "".join(self.texts)


@dataclass(frozen=True)
class Step:
    """A further part of an answer.

    Attributes:
        answer: with this part.
        piece: the part.
        begins: whether it is the first.
        offset: characters that its answer's tokens had before.
    """

    answer: Answer
    piece: Piece
    begins: bool
    offset: int


@dataclass
class Asking:
    """One request for answers to prompts.

    Attributes:
        id: that the answers have.
        served: the model that is asked.
        prompts: that are asked.
        sampling: of each.
        wanted: which edits may answer.
        principal: who asks.
        tell: is told of each answer.
        began: when the request came, in seconds since 1970, and by a clock that is never set.
    """

    id: str
    served: Served
    prompts: Sequence[Prompt]
    sampling: Sampling
    wanted: Wanted
    principal: Any
    tell: Tell
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))
    answers: list[Answer] = field(init=False)

    def __post_init__(self) -> None:
        each = self.sampling.n
        self.answers = [Answer(number, self.prompts[number // each]) for number in range(each * len(self.prompts))]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self.prompts)

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers, as far as they are there."""
        return sum(answer.count for answer in self.answers)

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Yield the parts of all answers as they come; whoever closes this ends the request.

        Raises:
            ConfigError: for what the engine cannot do; before the first part.
            ModelError: when the engine fails.
        """
        queue: asyncio.Queue[tuple[int, Piece] | Exception | None] = asyncio.Queue(_AHEAD)
        pumps = [asyncio.ensure_future(self._pump(number, queue)) for number in range(len(self.prompts))]
        left = len(pumps)
        try:
            while left:
                found = await queue.get()
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    left -= 1
                else:
                    yield self._taken(*found)
            if any(answer.finish is None for answer in self.answers):
                raise ModelError(f"{self.served.engine.model} ended without an answer: ask again.")
        finally:
            await ended(*pumps)

    async def whole(self) -> None:
        """Let all answers come.

        Raises:
            ConfigError: for what the engine cannot do.
            ModelError: when the engine fails.
        """
        async for _ in self.steps():
            pass

    async def _pump(self, number: int, queue: asyncio.Queue[tuple[int, Piece] | Exception | None]) -> None:
        """Carry the parts of the answers to one prompt, from the engine's iterator that only this task has."""
        request = Request(f"{self.id}-{number}", self.prompts[number].ids, self.sampling, self.wanted)
        try:
            async with AsyncExitStack() as stack:
                pieces = self.served.engine.ask(request)
                close = getattr(pieces, "aclose", None)
                if close is not None:
                    stack.push_async_callback(close)
                async for piece in pieces:
                    await queue.put((number, piece))
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    def _taken(self, number: int, piece: Piece) -> Step:
        answer = self.answers[number * self.sampling.n + piece.index]
        begins, offset = answer.first is None, answer.offset
        if answer.first is None:
            answer.first = self._passed()
        answer.texts.append(piece.text)
        answer.tokens.extend(piece.tokens)
        answer.offset += sum(len(token.text) for token in piece.tokens)
        answer.count, answer.fired, answer.finish = piece.count, piece.fired, piece.finish
        if piece.finish is not None:
            self._tell(answer, answer.first, piece.finish)
        return Step(answer, piece, begins, offset)

    def _passed(self) -> float:
        return time.monotonic() - self.began[1]

    def _tell(self, answer: Answer, first: float, finish: str) -> None:
        event = Answered(
            id=self.id,
            model=self.served.engine.model,
            prompt=answer.prompt.text,
            wanted=self.wanted,
            principal=self.principal,
            fired=answer.fired,
            finish=finish,
            prompt_tokens=len(answer.prompt.ids),
            completion_tokens=answer.count,
            began=self.began[0],
            first=first,
            seconds=self._passed(),
        )
        try:
            self.tell(event)
        except Exception:  # an answer is not lost for what is told of it
            _log.exception("What was told of an answer was not taken.")
