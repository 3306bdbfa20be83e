"""An engine that tells what it does: it counts answers, traces them, and notes which edit fired."""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from transformers import PreTrainedTokenizerBase

from horen.model.prompts import PromptReader
from horen.serve.engines.interface import Engine, Fired, Health, Piece, Request
from horen.serve.life import Life
from horen.serve.prompts import Prompts
from horen.serve.refusals import RefusalError
from horen.serve.settings import Settings
from horen.serve.telemetry.metrics import Metrics
from horen.serve.telemetry.noted import note_answer
from horen.serve.telemetry.tracing import Tracing


class ObservedEngine:
    """Answers as another engine does.

    Args:
        engine: that answers.
        settings: whether prompts are kept or logged.
        metrics: that count answers.
        life: that counts those which are being given.
        prompts: that keep the most frequent ones.
        tracing: that makes spans.
        tokenizer: of the model; without one no prompt is kept or logged.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        metrics: Metrics,
        life: Life,
        prompts: Prompts,
        tracing: Tracing,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        self._engine, self._settings, self._metrics, self._life = engine, settings, metrics, life
        self._prompts, self._tracing = prompts, tracing
        self._reader: PromptReader | None = None
        if tokenizer is not None and (settings.keep_prompts or settings.log_prompts):
            # A copy, because a tokenizer is changed while it reads, and this one is not read under its owner's lock.
            self._reader = PromptReader(copy.deepcopy(tokenizer), words_only=True)
        self.model, self.context = engine.model, engine.context

    async def ask(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the parts of the answers as they come; whoever stops iterating ends the request.

        Raises:
            RefusalError: where the service ends.
            ConfigError: see :class:`Engine`.
            ModelError: likewise.
        """
        if self._life.ending:
            message = "The service ends: ask it, or another, again."
            raise RefusalError(503, message, code="ending", headers={"retry-after": "1"})
        words = self._words(request)
        if words and self._settings.keep_prompts:
            self._prompts.note(words)
        began, answers = time.perf_counter(), dict[int, _Answer]()
        with self._life.answer(), self._tracing.span("horen.answer", **{"horen.answers": request.sampling.n}) as told:
            try:
                async for piece in self._engine.ask(request):
                    answers.setdefault(piece.index, _Answer(began)).take(piece)
                    yield piece
            except Exception:
                self._metrics.failed()
                raise
            finally:
                for answer in answers.values():
                    self._end(answer, words, told)

    async def health(self) -> Health:
        """Return how the engine is."""
        return await self._engine.health()

    async def close(self) -> None:
        """End what runs, and give back what is held."""
        await self._engine.close()

    def _words(self, request: Request) -> str | None:
        """Return the user's words in a prompt; None where they are not wanted."""
        if self._reader is None:
            return None
        return self._reader.text(request.prompt, self._reader.read(request.prompt).spans[0])

    def _end(self, answer: _Answer, words: str | None, told: Callable[[dict[str, Any]], None]) -> None:
        """Count an answer, and note it for its span and its request's line in the log."""
        told(answer.traced())
        noted: dict[str, Any] = {"edit": None, "tokens": answer.tokens, "finish": answer.finish}
        if answer.fired is not None:
            noted |= {"edit": answer.fired.edit, "score": round(answer.fired.score, 4)}
        if self._settings.log_prompts and words is not None:
            noted |= {"prompt": words, "answer": "".join(answer.texts)}
        note_answer(noted)
        if answer.finish is not None:
            self._metrics.answered(answer.fired, answer.first, answer.seconds, answer.tokens)


class _Answer:
    """What is known of one answer.

    Args:
        began: when the request was made.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self.fired: Fired | None = None
        self.finish: str | None = None
        self.first = self.seconds = 0.0
        self.tokens = 0
        self.texts: list[str] = []

    def take(self, piece: Piece) -> None:
        """Note a part of it."""
        self.seconds = time.perf_counter() - self._began
        self.first = self.first or self.seconds
        self.fired, self.finish, self.tokens = piece.fired or self.fired, piece.finish, piece.count
        self.texts.append(piece.text)

    def traced(self) -> dict[str, Any]:
        """Return what a span has of it."""
        told: dict[str, Any] = {"horen.first_seconds": self.first, "horen.tokens": self.tokens}
        if self.fired is not None:
            fired = self.fired
            told |= {"horen.edit": fired.edit, "horen.score": fired.score, "horen.version": fired.version}
        return told
