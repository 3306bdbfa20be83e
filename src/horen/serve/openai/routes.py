"""The routes of OpenAI's interface that are kept here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from horen.errors import ConfigError, EditError, EditNotFoundError
from horen.serve.engines.interface import Sampling
from horen.serve.openai import streams
from horen.serve.openai.answers import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    Completion,
    Edited,
    Message,
    ModelEntry,
    ModelList,
    TextChoice,
    TextLogprobs,
    Usage,
)
from horen.serve.openai.asking import Asking
from horen.serve.openai.hooks import Resolve, Tell, untold, without_store
from horen.serve.openai.places import Limits, Places
from horen.serve.openai.prompts import Prompt, Served, separate
from horen.serve.openai.requests import ChatBody, CompletionBody, WantedBody
from horen.serve.openai.route import REFUSALS, Route, until_gone
from horen.serve.openai.telling import wrong
from horen.serve.refusals import RefusalError


async def nobody() -> None:
    """Return who asks, where that is not asked."""
    return


def openai_router(
    models: Sequence[Served],
    *,
    resolve: Resolve = without_store,
    answered: Tell = untold,
    principal: Callable[..., Any] = nobody,
    limits: Limits | None = None,
) -> APIRouter:
    """Return the routes ``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``.

    Args:
        models: that can be asked, by the names of their engines.
        resolve: turns what a request says of edits into their ids.
        answered: is told of each finished answer.
        principal: a dependency of FastAPI's, which says who asks or raises; its result goes to both hooks.
        limits: on how much is asked at once; see :class:`Limits`.

    Raises:
        ConfigError: for limits that cannot be kept.
    """
    asked = _Asked(models, resolve, answered, limits or Limits())
    router = APIRouter(prefix="/v1", route_class=Route, tags=["OpenAI"])
    who: Any = Depends(principal)

    async def create_chat_completion(body: ChatBody, request: Request, by: Any = who) -> Response:
        """Answer a conversation."""
        return await asked.chat(body, request, by)

    async def create_completion(body: CompletionBody, request: Request, by: Any = who) -> Response:
        """Continue texts."""
        return await asked.texts(body, request, by)

    async def list_models(_: Any = who) -> ModelList:
        """List the models that can be asked."""
        return ModelList(data=asked.entries)

    async def get_model(model: str, _: Any = who) -> ModelEntry:
        """Tell of a model."""
        return asked.entry(model)

    for path, endpoint, model, chunk in (
        ("/chat/completions", create_chat_completion, ChatCompletion, ChatChunk),
        ("/completions", create_completion, Completion, Completion),
    ):
        told = {**REFUSALS, 200: {"content": streams.described(chunk), "description": "The answers"}}
        router.add_api_route(path, endpoint, methods=["POST"], response_model=model, responses=told)
    router.add_api_route("/models", list_models, methods=["GET"], responses=REFUSALS)
    router.add_api_route("/models/{model:path}", get_model, methods=["GET"], responses=REFUSALS)
    return router


class _Asked:
    """What the routes share."""

    def __init__(self, models: Sequence[Served], resolve: Resolve, tell: Tell, limits: Limits) -> None:
        self._models = {served.engine.model: served for served in models}
        self._resolve, self._tell, self._limits = resolve, tell, limits
        self._places, self._created = Places(limits), int(time.time())

    @property
    def entries(self) -> list[ModelEntry]:
        """All models."""
        return [self.entry(name) for name in self._models]

    def entry(self, name: str) -> ModelEntry:
        """Return what is told of a model."""
        return ModelEntry(id=name, created=self._created, max_model_len=self._served(name).engine.context)

    async def chat(self, body: ChatBody, request: Request, by: Any) -> Response:
        """Answer a conversation."""
        served = self._served(body.model)
        _check_chat(body)
        async with AsyncExitStack() as held:
            await self._take(body, held)
            prompt = await served.conversation(body.messages)
            served.check_room(prompt, body.most, "messages")
            asking = await self._asking("chatcmpl", body, served, [prompt], by)
            if body.streams:
                return await _streamed(body, request, asking, held)
            await until_gone(request, asking.whole())
        return _chat_answer(body, asking)

    async def texts(self, body: CompletionBody, request: Request, by: Any) -> Response:
        """Continue texts."""
        served = self._served(body.model)
        _check_texts(body)
        async with AsyncExitStack() as held:
            await self._take(body, held)
            prompts = await served.continued(body.prompt)
            for prompt in prompts:
                served.check_room(prompt, body.most, "prompt")
            asking = await self._asking("cmpl", body, served, prompts, by)
            if body.streams:
                return await _streamed(body, request, asking, held)
            await until_gone(request, asking.whole())
        return _text_answer(body, asking)

    def _served(self, name: str) -> Served:
        if name not in self._models:
            raise RefusalError(
                404,
                f"There is no model {name[:120]!r} here: ask {' or '.join(self._models)}.",
                param="model",
                code="model_not_found",
            )
        return self._models[name]

    async def _take(self, body: ChatBody | CompletionBody, held: AsyncExitStack) -> None:
        prompts = len(separate(body.prompt)) if isinstance(body, CompletionBody) else 1
        count = prompts * body.answers
        if count > self._limits.answers:
            raise wrong(
                "n" if prompts == 1 else "prompt",
                f"{count} answers are asked for at once, and {self._limits.answers} may be: ask for fewer.",
            )
        held.enter_context(self._places.take(count))

    async def _asking(
        self, kind: str, body: ChatBody | CompletionBody, served: Served, prompts: Sequence[Prompt], by: Any
    ) -> Asking:
        temperature, top_p = body.chance
        sampling = Sampling(body.most, temperature, top_p, body.seed, body.stops, body.told, body.answers)
        try:
            wanted = await self._resolve(body.horen or WantedBody(), by)
        except (ConfigError, EditError, EditNotFoundError) as error:
            raise wrong("horen", str(error)) from error
        return Asking(f"{kind}-{uuid.uuid4().hex}", served, prompts, sampling, wanted, by, self._tell)


async def _streamed(
    body: ChatBody | CompletionBody, request: Request, asking: Asking, held: AsyncExitStack
) -> Response:
    """Return an answer in parts, once its first part is there."""
    steps = asking.steps()
    held.push_async_callback(steps.aclose)
    begun = await until_gone(request, streams.begun(steps))
    created = int(asking.began[0])
    if isinstance(body, ChatBody):
        return streams.Events(streams.chat_events(body, asking, created, begun), held.pop_all())
    return streams.Events(streams.text_events(body, asking, created, begun), held.pop_all())


def _check_chat(body: ChatBody) -> None:
    if body.tools and body.tool_choice != "none":
        raise wrong(
            "tools",
            "tools are given, and the model here calls none: leave them out, or say tool_choice='none' to have an "
            "answer without them.",
            "unsupported_parameter",
        )
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise wrong("max_tokens", "max_tokens and max_completion_tokens say the same: give one of them.")
    if body.top_logprobs is not None and not body.logprobs:
        raise wrong("top_logprobs", "top_logprobs is given without logprobs=true: give both, or neither.")
    _check_stream(body)


def _check_texts(body: CompletionBody) -> None:
    if body.best_of is not None and body.best_of != body.answers:
        raise wrong(
            "best_of", f"best_of is {body.best_of}, and no answers are made and thrown away here: give as many as n."
        )
    _check_stream(body)


def _check_stream(body: ChatBody | CompletionBody) -> None:
    if body.stream_options is not None and not body.streams:
        raise wrong("stream_options", "stream_options is given without stream=true: give both, or neither.")


def _chat_answer(body: ChatBody, asking: Asking) -> Response:
    choices = []
    for answer in asking.answers:
        said = None if body.told is None else ChatLogprobs.of(tuple(answer.tokens), body.told)
        finish: Any = answer.finish
        choices.append(
            ChatChoice(
                index=answer.index,
                message=Message(content=answer.text),
                logprobs=said,
                finish_reason=finish,
                horen=Edited.of(answer.fired),
            )
        )
    told = ChatCompletion(
        id=asking.id,
        created=int(asking.began[0]),
        model=asking.served.engine.model,
        choices=choices,
        usage=Usage.of(asking.prompt_tokens, asking.completion_tokens),
        system_fingerprint=asking.served.fingerprint,
    )
    return Response(told.model_dump_json(), media_type="application/json")


def _text_answer(body: CompletionBody, asking: Asking) -> Response:
    choices = []
    for answer in asking.answers:
        said = None if body.told is None else TextLogprobs.of(tuple(answer.tokens), body.told)
        finish: Any = answer.finish
        choices.append(
            TextChoice(
                index=answer.index,
                text=answer.text,
                logprobs=said,
                finish_reason=finish,
                horen=Edited.of(answer.fired),
            )
        )
    told = Completion(
        id=asking.id,
        object="text_completion",
        created=int(asking.began[0]),
        model=asking.served.engine.model,
        system_fingerprint=asking.served.fingerprint,
        choices=choices,
        usage=Usage.of(asking.prompt_tokens, asking.completion_tokens),
    )
    return Response(told.model_dump_json(), media_type="application/json")
