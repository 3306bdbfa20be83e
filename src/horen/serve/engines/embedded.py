"""The embedded engine: one transformers model in this process, with the edits of one codebook."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.errors import ConfigError, HorenError, ModelError
from horen.front.front import Front
from horen.front.wish import Among, Wish
from horen.front.writing import Writing
from horen.model.adapter import MARK
from horen.model.contexts import ends_of
from horen.model.methods import wrapped
from horen.serve.engines.checking import check
from horen.serve.engines.continuous.answer import Answer
from horen.serve.engines.continuous.batch import Batch, Own
from horen.serve.engines.continuous.probe import probe
from horen.serve.engines.continuous.room import Room
from horen.serve.engines.continuous.writer import Writer
from horen.serve.engines.interface import Health, Piece, Request

# How long the thread that hands out answers waits for one before it looks whether any can come, in seconds.
_WAIT = 0.1
# Prompts wait for others for this share of a step, and no longer than so many seconds: those whose answers ended with a
# step are followed by the next ones of the same clients.
_SHARE, _LONGEST = 0.1, 0.1


class Embedded:
    """Answers with transformers' continuous batching, as :class:`horen.serve.engines.interface.Engine`.

    Nobody else may run the model until :meth:`close`.

    Args:
        model: in evaluation mode, with no editor's hooks on it. How it was loaded decides about its attention.
        tokenizer: the model's own, a fast one.
        codebook: the folder whose edits answer; None for none.
        name: under which the model is asked.
        room: how much is answered at once.

    Raises:
        StoreError: when the codebook's folder is missing, truncated or altered.
        MismatchError: when it was made for another model.
        ConfigError: for a codebook that tells facts in words, or a room that is none.
        ModelError: for a model that is wrapped, or that transformers does not batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        codebook: Path | None = None,
        *,
        name: str = "model",
        room: Room = Room(),  # noqa: B008 - immutable
    ) -> None:
        if getattr(model, MARK, None) is not None:
            raise wrapped()
        self.model, self._tokenizer, self._served = name, tokenizer, model
        self._front = None if codebook is None else Front.of(codebook, model, tokenizer)
        self._ends = ends_of(model, tokenizer).all
        self._vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
        self._answers: dict[str, Answer] = {}
        self._numbers = itertools.count(1)
        self._routing = 0
        self._closed = self._over = False
        self._thread: threading.Thread | None = None
        self._batch = Batch(model, room.config(model))
        model.__dict__[MARK] = self
        self._writer: Writer | None = None
        try:
            probe(model, tokenizer, self._batch)
            if self._front is not None:
                self._front.alone, self._front.patience = self._batch.paused, self._patience
                site = self._front.session._adapter.write
                self._writer = Writer(model, site, self._batch.runs)
        except BaseException:
            self._end()
            raise
        limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self.context = min(self._batch.longest, limit or self._batch.longest)
        self._thread = threading.Thread(target=self._hand_out, name="horen answers", daemon=True)
        self._thread.start()

    @property
    def front(self) -> Front | None:
        """What routes prompts; None without a codebook."""
        return self._front

    async def ask(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the parts of the answers as they come; see :meth:`horen.serve.engines.interface.Engine.ask`."""
        self._check_ready()
        check(request, context=self.context, vocabulary=self._vocabulary)
        writing = await self._routed(request)
        self._check_ready()
        pieces: asyncio.Queue[Piece | HorenError] = asyncio.Queue()
        names: list[str] = []
        # Where nothing is left to chance, one answer is all of them.
        alike = request.sampling.n if request.sampling.temperature == 0 else 1
        try:
            for index in range(request.sampling.n // alike):
                answer = Answer.to(request, index, tokenizer=self._tokenizer, writing=writing, pieces=pieces)
                names.append(self._begin(request, answer))
            left = len(names)
            while left:
                piece = await pieces.get()
                if isinstance(piece, HorenError):
                    raise piece
                left -= piece.finish is not None
                for index in range(piece.index, piece.index + alike):
                    yield replace(piece, index=index)
        finally:
            for name in names:
                if self._answers.pop(name, None) is not None:
                    self._batch.cancel(name)

    async def health(self) -> Health:
        """Return how the engine is; where it is not ready, why."""
        why = self._why()
        version = None
        if self._front is not None:
            version = await asyncio.to_thread(self._front.version)
        asked = len(self._answers)
        running = min(asked, self._batch.count()) if not why else 0
        return Health(not why, running, asked - running + self._routing, version, why)

    async def close(self) -> None:
        """End what runs, and let the model be as it was; once more does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._closed = True
        self._batch.end()
        del self._served.__dict__[MARK]
        if self._writer is not None:
            self._writer.take_off()
        if self._front is not None:
            self._front.close()
        if self._thread is not None:
            self._thread.join()

    def _why(self) -> str:
        """Return why the engine is not ready; nothing where it is."""
        if self._closed:
            return "The engine was closed."
        if self._batch.why or not self._batch.runs_on:
            return f"The engine has stopped ({self._batch.why or 'its thread is gone'}): start it anew."
        return ""

    def _check_ready(self) -> None:
        why = self._why()
        if why:
            raise ModelError(why)

    async def _routed(self, request: Request) -> Writing | None:
        wanted = request.wanted
        if self._front is None:
            if wanted.version:
                raise ConfigError(f"version={wanted.version} is not there: this engine has no codebook, leave it out.")
            return None
        if not wanted.on:
            return None
        wish = Wish(version=wanted.version, among=Among(wanted.only, wanted.without))
        self._routing += 1
        try:
            found = await asyncio.wrap_future(self._front.submit(request.prompt, wish))
        except HorenError:
            raise
        except Exception as error:
            raise ModelError(f"The prompt cannot be routed ({type(error).__name__}: {error}).") from error
        finally:
            self._routing -= 1
        assert found is None or isinstance(found, Writing)  # noqa: S101 - this front reads activations itself
        return found

    def _patience(self) -> float:
        """Return how long a prompt may wait for others: a part of a step, whose end it would wait for anyway."""
        return min(_SHARE * self._batch.step(), _LONGEST)

    def _begin(self, request: Request, answer: Answer) -> str:
        """Let an answer be made, and return its name."""
        name, sampling = f"{next(self._numbers)}", request.sampling
        self._answers[name] = answer
        most = self.context - len(request.prompt) if sampling.max_tokens is None else sampling.max_tokens
        taken = self._batch.add(name, request.prompt, Own(answer.draws, answer.writing), most, self._ends)
        if not taken or self._over:  # nobody would hand its answer out
            self._answers.pop(name, None)
            raise ModelError(self._why() or "The engine takes no more requests, because it is being closed.")
        return name

    def _hand_out(self) -> None:
        """Give the answers' new tokens to those who wait for them, until no more can come."""
        while True:
            output = self._batch.result(_WAIT)
            if output is not None:
                self._take(output)
            elif not self._batch.runs_on:
                break
        self._over = True
        for name in list(self._answers):
            answer = self._answers.pop(name, None)
            if answer is not None:
                answer.fail(ModelError(self._why()))

    def _take(self, output: Any) -> None:
        name = output.request_id
        answer = self._answers.get(name)
        if answer is None:
            return  # nobody waits for it any more
        if output.error is not None:
            over = True
            answer.fail(ModelError(self._why() or f"The engine has failed ({output.error})."))
        else:
            try:
                over = answer.take(output.generated_tokens, self._ends, ended=output.is_finished())
            except Exception as error:  # of the tokenizer: other answers go on
                over = True
                answer.fail(ModelError(f"The answer cannot be told in words ({type(error).__name__}: {error})."))
        if over:
            self._answers.pop(name, None)
            if not output.is_finished():
                self._batch.cancel(name)
