"""How a request is read, and how whatever goes wrong is said: in the shape of OpenAI's interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from email.message import Message
from typing import Any, TypeVar

import jiter
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from horen.errors import ConfigError, EditError, EditNotFoundError, ModelError, StoreError
from horen.serve.openai.answers import ErrorAnswer
from horen.serve.openai.telling import check_names, refusal_of
from horen.serve.refusals import RefusalError

_log = logging.getLogger(__name__)
T = TypeVar("T")
#: Every status that is told with an error, for the description of the interface.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in (
        (400, "The request is not understood, or asks for something that is not done here"),
        (401, "No valid key"),
        (403, "The key does not allow it"),
        (404, "There is no such model"),
        (408, "The body came too slowly"),
        (413, "The body is too large"),
        (415, "The body is not JSON"),
        (429, "Too many answers are being made"),
        (500, "Something went wrong here"),
        (503, "The model does not answer"),
        ("4XX", "Any other refusal"),
    )
}


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Route(APIRoute):
    """A route whose bodies are strict JSON, and whose errors have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        usual = super().get_route_handler()
        body = self.body_field and self.body_field.field_info.annotation

        async def answered(request: Request) -> Response:
            try:
                if isinstance(body, type) and issubclass(body, BaseModel):
                    request = await _read(request, list(body.model_fields))
                return await usual(request)
            except Exception as error:
                return _said(error)

        return answered


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what work comes to; it is ended when the client goes.

    Args:
        request: whose body has been read.
        work: to be done.

    Raises:
        ClientGoneError: when the client has gone.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(gone_from(request.receive))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGoneError
        return await doing
    finally:
        await ended(doing, gone)


async def gone_from(receive: Callable[[], Awaitable[Any]]) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """End tasks and wait until they have ended, whatever they came to."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def refusal(error: Exception) -> RefusalError:
    """Return what is said of an error."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, RequestValidationError):
        return refusal_of(error.errors(), error.body)
    if isinstance(error, HTTPException):
        return RefusalError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, ConfigError | EditError | EditNotFoundError):
        return RefusalError(400, str(error), code="invalid_value")
    if isinstance(error, ModelError | StoreError):
        _log.error("A request was not answered: %s", error)
        return RefusalError(503, str(error), code="unavailable", headers={"Retry-After": "1"})
    _log.error("A request was not answered.", exc_info=error)
    return RefusalError(500, "Something went wrong here; the service's log says what.", code="internal_error")


def _said(error: Exception) -> Response:
    if isinstance(error, ClientGoneError):
        return Response(status_code=499)  # which nobody reads
    found = refusal(error)
    return Response(found.body, found.status, found.headers, "application/json")


class _Parsed(Request):
    """A request whose body has been read."""

    parsed: Any

    async def json(self) -> Any:
        """Return what the body says."""
        return self.parsed


async def _read(request: Request, names: list[str]) -> Request:
    _check_type(request.headers.get("content-type"))
    try:
        raw = await request.body()
    except Exception as error:
        raise ClientGoneError from error
    parsed = _Parsed(request.scope, request.receive)
    parsed._body = raw
    parsed.parsed = _json(raw)
    check_names(parsed.parsed, names)
    return parsed


def _check_type(given: str | None) -> None:
    # Other types can be sent by any page of the web in a browser of somebody who may ask this service.
    told = Message()
    told["content-type"] = given or "none/none"
    if told.get_content_type() != "application/json":
        raise RefusalError(
            415,
            f"The body's type is {given or 'not told'}: send JSON, with the header Content-Type: application/json.",
            code="unsupported_media_type",
        )


def _json(raw: bytes) -> Any:
    """Return what JSON says.

    Raises:
        RefusalError: for anything else, and where two fields of an object have one name, of which others would take one
            or the other.
    """
    try:
        return jiter.from_json(raw, allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True)
    except ValueError as error:
        raise RefusalError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from error
