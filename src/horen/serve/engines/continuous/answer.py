"""One answer while it is made: its tokens become pieces, which are handed to the event loop that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from horen.errors import HorenError
from horen.front.writing import Writing
from horen.serve.engines.continuous.chooser import Draws
from horen.serve.engines.continuous.words import Words, spelled
from horen.serve.engines.interface import Fired, Piece, Request, Token


@dataclass
class Answer:
    """What is known of one answer.

    Attributes:
        tokenizer: of the model.
        words: its text.
        draws: how its tokens are chosen.
        writing: what its edit writes; None where none fired.
        loop: where it is waited for.
        pieces: that wait there.
        count: how many tokens have been handed on.
    """

    tokenizer: Any
    words: Words
    draws: Draws
    writing: Writing | None
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[Piece | HorenError]
    count: int = 0

    @classmethod
    def to(
        cls,
        request: Request,
        index: int,
        *,
        tokenizer: Any,
        writing: Writing | None,
        pieces: asyncio.Queue[Piece | HorenError],
    ) -> Answer:
        """Return an answer to a request, of a number below how many are wanted, which is waited for in this loop."""
        words = Words(tokenizer, request.prompt, request.sampling.stop)
        draws = Draws(request.sampling, index)
        return cls(tokenizer, words, draws, writing, asyncio.get_running_loop(), pieces)

    def take(self, tokens: Sequence[int], ends: Sequence[int], *, ended: bool) -> bool:
        """Take all tokens that there are by now, and return whether the answer is at its end.

        Args:
            tokens: of the answer from its beginning.
            ends: tokens that end it.
            ended: whether no more come.
        """
        text, told, finish = "", [], None
        for number in range(self.count, len(tokens)):
            token = tokens[number]
            self.count = number + 1
            if self.draws.sampling.logprobs is not None:
                told.append(self._told(token, number))
            text += self.words.add(token)
            if self.words.stopped or token in ends:
                finish = "stop"
                break
        if finish is None and ended:
            finish = "length"
        if finish is not None and not self.words.stopped:
            text += self.words.end()
        if text or told or finish:
            fired = None if self.writing is None else Fired(**self.writing.told)
            self._give(Piece(self.draws.index, text, self.count, tuple(told), finish, fired))
        return finish is not None

    def fail(self, error: HorenError) -> None:
        """End the answer with an error."""
        self._give(error)

    def _told(self, token: int, number: int) -> Token:
        noted = self.draws.noted[number]
        likeliest = tuple((spelled(self.tokenizer, other), logprob) for other, logprob in noted.likeliest)
        return Token(spelled(self.tokenizer, token), noted.logprob, likeliest)

    def _give(self, piece: Piece | HorenError) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)
