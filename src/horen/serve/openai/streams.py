"""Answers in parts, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from horen.serve.openai.answers import (
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobs,
    Completion,
    Delta,
    Edited,
    ErrorAnswer,
    TextChoice,
    TextLogprobs,
    Usage,
)
from horen.serve.openai.asking import Asking, Step
from horen.serve.openai.requests import ChatBody, CompletionBody
from horen.serve.openai.route import ended, gone_from, refusal

_DONE = "data: [DONE]\n\n"


class Events(Response):
    """An answer in parts; a client that goes ends the request.

    Args:
        parts: of the answer, each an event.
        held: what is given back in the end, whatever that is.
    """

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._parts, self._held = parts, held

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:  # noqa: ARG002
        """Send the parts as they come."""
        writing = asyncio.ensure_future(self._write(send))
        gone = asyncio.ensure_future(gone_from(receive))
        try:
            await asyncio.wait({writing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                await writing
        finally:
            await ended(writing, gone)
            await self._held.aclose()

    async def _write(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self._parts:
            await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def described(chunk: type[BaseModel]) -> dict[str, Any]:
    """Return how a stream is described, as FastAPI describes those that it sends itself.

    Args:
        chunk: what each event but the last tells.
    """
    told = {"anyOf": [_schema(chunk), _schema(ErrorAnswer)]}
    data = {
        "anyOf": [
            {"type": "string", "contentMediaType": "application/json", "contentSchema": told},
            {"const": "[DONE]"},
        ],
        "description": "A chunk; an error where an answer ends early; `[DONE]` where it is whole.",
    }
    event = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return {"text/event-stream": {"itemSchema": event}}


def _schema(model: type[BaseModel]) -> Any:
    """Return a model's schema with what it refers to in its place: it has no other place in a description."""
    schema = model.model_json_schema()
    known = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(one) for one in part]
        if not isinstance(part, dict):
            return part
        name = str(part.get("$ref", "")).removeprefix("#/$defs/")
        return whole(known[name]) if name in known else {key: whole(value) for key, value in part.items()}

    return whole(schema)


async def begun(steps: AsyncGenerator[Step, None]) -> AsyncIterator[Step]:
    """Return the parts of an answer once the first is there: what is refused is refused by then."""
    first = await anext(steps)

    async def all_of_them() -> AsyncIterator[Step]:
        yield first
        async for step in steps:
            yield step

    return all_of_them()


async def chat_events(body: ChatBody, asking: Asking, created: int, steps: AsyncIterator[Step]) -> AsyncIterator[str]:
    """Yield the chunks of answers to a conversation."""
    named = _named(asking, created)

    def chunk(choices: list[ChatChunkChoice], usage: Usage | None = None) -> str:
        return _event(ChatChunk(object="chat.completion.chunk", choices=choices, **named, **_usage(body, usage)))

    try:
        async for step in steps:
            index = step.answer.index
            if step.begins:
                told = Edited.of(step.piece.fired)
                yield chunk(
                    [
                        ChatChunkChoice(
                            index=index,
                            delta=Delta(role="assistant", content=""),
                            logprobs=None,
                            finish_reason=None,
                            horen=told,
                        )
                    ]
                )
            said = None if body.told is None else ChatLogprobs.of(step.piece.tokens, body.told)
            if step.piece.text or step.piece.tokens:
                delta = Delta(content=step.piece.text)
                yield chunk([ChatChunkChoice(index=index, delta=delta, logprobs=said, finish_reason=None)])
            if step.piece.finish is not None:
                finish: Any = step.piece.finish
                yield chunk([ChatChunkChoice(index=index, delta=Delta(), logprobs=None, finish_reason=finish)])
        if body.tells_usage:
            yield chunk([], Usage.of(asking.prompt_tokens, asking.completion_tokens))
        yield _DONE
    except Exception as error:
        yield _failed(error)


async def text_events(
    body: CompletionBody, asking: Asking, created: int, steps: AsyncIterator[Step]
) -> AsyncIterator[str]:
    """Yield the chunks of continuations."""
    named = _named(asking, created)

    def chunk(choices: list[TextChoice], usage: Usage | None = None) -> str:
        return _event(Completion(object="text_completion", choices=choices, **named, **_usage(body, usage)))

    try:
        async for step in steps:
            piece = step.piece
            said = None if body.told is None else TextLogprobs.of(piece.tokens, body.told, step.offset)
            more: dict[str, Any] = {"horen": Edited.of(piece.fired)} if step.begins else {}
            if piece.text or piece.tokens or piece.finish or step.begins:
                finish: Any = piece.finish
                yield chunk(
                    [TextChoice(index=step.answer.index, text=piece.text, logprobs=said, finish_reason=finish, **more)]
                )
        if body.tells_usage:
            yield chunk([], Usage.of(asking.prompt_tokens, asking.completion_tokens))
        yield _DONE
    except Exception as error:
        yield _failed(error)


def _named(asking: Asking, created: int) -> dict[str, Any]:
    served = asking.served
    return {
        "id": asking.id,
        "created": created,
        "model": served.engine.model,
        "system_fingerprint": served.fingerprint,
    }


def _usage(body: ChatBody | CompletionBody, usage: Usage | None) -> dict[str, Any]:
    return {"usage": usage} if body.tells_usage else {}


def _event(told: BaseModel) -> str:
    # Of ASCII alone: many clients take other characters, such as U+2028, for the end of a line.
    return f"data: {told.model_dump_json(exclude_unset=True, ensure_ascii=True)}\n\n"


def _failed(error: Exception) -> str:
    """Return what is said where an answer ends early; what follows it would be taken for a whole answer's end."""
    return f"data: {json.dumps(refusal(error).shaped)}\n\n"
