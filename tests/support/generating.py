"""An engine over transformers' own ``generate``, one answer at a time in a thread, with real answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from horen import ConfigError, Editor, ModelError
from horen.asking.routes import looked_up
from horen.model.routed import Routed
from horen.serve.engines.checking import check
from horen.serve.engines.interface import Fired, Health, Piece, Request, Sampling, Token


class Drawing(LogitsProcessor):
    """Draws a token with random numbers of its own, and notes how likely each was.

    Noise is added whose largest sum with the logits is a draw of them, so that ``generate`` need only take the largest.
    """

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(seed)
        self.logprobs = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        self.logprobs = scores[0].float().log_softmax(-1)
        if self.sampling.temperature == 0:
            return scores
        scaled = (scores.float() / self.sampling.temperature).log_softmax(-1)
        likeliest, order = scaled.sort(descending=True)
        before = likeliest.exp().cumsum(-1) - likeliest.exp()
        scaled[0, order[0, before[0] >= self.sampling.top_p]] = -torch.inf
        noise = torch.rand(scaled.shape, generator=self.generator).clamp_min(1e-30).log().neg().log().neg()
        return scaled + noise


class Ending(StoppingCriteria):
    """Ends an answer when somebody says so."""

    def __init__(self, over: threading.Event) -> None:
        self.over = over

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        return torch.full((len(input_ids),), self.over.is_set())


@dataclass
class Speaking:
    """Makes an answer's text of its tokens: no half character, and nothing that a stop text may begin with."""

    tokenizer: Any
    stops: tuple[str, ...]
    ids: list[int] = field(default_factory=list)
    said: int = 0

    def said_with(self, token: int | None) -> tuple[str, bool]:
        """Return what is new with a token, None at the end, and whether a stop text has come."""
        if token is not None:
            self.ids.append(token)
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if found:
            new, self.said = text[self.said : min(found)], len(text)
            return new, True
        end = len(text) if token is None else self._sure(text)
        new, self.said = text[self.said : max(end, self.said)], max(end, self.said)
        return new, False

    def _sure(self, text: str) -> int:
        text = text.rstrip("\ufffd")
        held = (n for stop in self.stops for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
        return len(text) - max(held, default=0)


@dataclass
class Streaming:
    """Takes the tokens of one answer from ``generate``, as its streamer."""

    speaking: Speaking
    drawing: Drawing
    tell: Callable[[Piece], None]
    index: int
    fired: Fired | None
    over: threading.Event
    pause: float
    begun: bool = False
    stopped: bool = False

    def put(self, value: Tensor) -> None:
        if not self.begun:  # the prompt
            self.begun = True
            return
        if self.over.is_set():
            return
        token = int(value.flatten()[0])
        text, self.stopped = self.speaking.said_with(token)
        tokens = () if self.drawing.sampling.logprobs is None else (self._told(token),)
        self.tell(Piece(self.index, text, len(self.speaking.ids), tokens, "stop" if self.stopped else None, self.fired))
        if self.stopped:
            self.over.set()
        time.sleep(self.pause)

    def end(self) -> None:
        pass

    def _told(self, token: int) -> Token:
        found, name = self.drawing.logprobs, self.speaking.tokenizer.decode
        top = found.topk(self.drawing.sampling.logprobs)
        likeliest = tuple((name([one]), float(found[one])) for one in top.indices.tolist())
        return Token(name([token]), float(found[token]), likeliest)


class Generating:
    """Answers with an editor's model: :class:`horen.serve.engines.interface.Engine`.

    Args:
        editor: whose edits answer.
        model: the name under which it is asked.
        context: how many tokens a prompt and its answer have together at most.
        pause: seconds that each token takes besides.
    """

    def __init__(self, editor: Editor, model: str = "tiny", context: int = 256, pause: float = 0.0) -> None:
        self.editor, self.model, self.context, self.pause = editor, model, context, pause
        self.made = 0
        self.running: set[str] = set()
        self._turn, self._closed = threading.Lock(), threading.Event()

    async def ask(self, request: Request) -> AsyncIterator[Piece]:
        vocabulary = self.editor.model.get_input_embeddings().weight.shape[0]
        check(request, context=self.context, vocabulary=vocabulary)
        loop, over = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

        def tell(found: Piece | Exception | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, found)

        self.running.add(request.id)
        work = asyncio.ensure_future(asyncio.to_thread(self._work, request, over, tell))
        try:
            while (found := await queue.get()) is not None:
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            over.set()
            await asyncio.wait({work})
            self.running.discard(request.id)

    async def health(self) -> Health:
        count = self.editor.operation_count
        return Health(not self._closed.is_set(), min(len(self.running), 1), max(len(self.running) - 1, 0), count)

    async def close(self) -> None:
        self._closed.set()

    def _work(self, request: Request, over: threading.Event, tell: Callable[[Piece | Exception | None], None]) -> None:
        try:
            while not self._turn.acquire(timeout=0.02):
                if over.is_set():
                    return
            try:
                fired = self._fired(request)
                for index in range(request.sampling.n):
                    self._answer(request, index, fired, over, tell)
            finally:
                self._turn.release()
            tell(None)
        except Exception as error:
            tell(error)

    def _answer(
        self,
        request: Request,
        index: int,
        fired: Fired | None,
        gone: threading.Event,
        tell: Callable[[Piece | Exception | None], None],
    ) -> None:
        sampling, tokenizer = request.sampling, self.editor.tokenizer
        seed = time.time_ns() if sampling.seed is None else sampling.seed
        drawing, over = Drawing(sampling, (seed + index) % 2**63), threading.Event()

        def told(piece: Piece) -> None:
            if self._closed.is_set():
                raise ModelError("The engine was closed: start it anew.")
            self.made += 1
            if gone.is_set():
                over.set()
            tell(piece)

        speaking = Speaking(tokenizer, sampling.stop)
        streaming = Streaming(speaking, drawing, told, index, fired, over, self.pause)
        row = torch.tensor([request.prompt])
        if self._closed.is_set():
            raise ModelError("The engine was closed: start it anew.")
        if gone.is_set():
            return
        options: Mapping[str, Any] = {
            "attention_mask": torch.ones_like(row),
            "do_sample": False,
            "max_new_tokens": min(sampling.max_tokens or self.context, self.context - len(request.prompt)),
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "logits_processor": [drawing],
            "stopping_criteria": [Ending(over)],
            "streamer": streaming,
        }
        with torch.no_grad():
            if fired is None:
                with self.editor.disabled():
                    self.editor.model.generate(row, **options)
            else:
                self.editor.model.generate(row, **options)
        if not streaming.stopped:
            ended = speaking.ids[-1:] == [tokenizer.eos_token_id]
            text, stopped = speaking.said_with(None)
            finish = "stop" if ended or stopped else "length"
            tell(Piece(index, text, len(speaking.ids), (), finish, fired))

    def _fired(self, request: Request) -> Fired | None:
        wanted, session = request.wanted, self.editor._session
        count = self.editor.operation_count
        if wanted.version not in (None, 0, count):
            raise ConfigError(f"version={wanted.version} is not there: this engine has {count} and 0.")

        def tell(routed: Mapping[int, Routed]) -> Mapping[int, Routed]:
            return routed

        (found,) = looked_up(session, [list(request.prompt)], tell)
        if found is None or not found.match.fired or not wanted.on or wanted.version == 0:
            return None
        record = session.history.holder(found.match.entry)
        if record is None or record.id in wanted.without or (wanted.only is not None and record.id not in wanted.only):
            return None
        return Fired(record.id, float(found.match.score), count)
