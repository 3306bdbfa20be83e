"""How errors leave the interface: always in one shape, that of OpenAI's, and told in its description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from horen.database.records import Clash
from horen.errors import HorenError
from horen.serve.refusals import RefusalError
from horen.serve.statuses import refusal

_WHEN = {
    400: "The request is not as described; `param` names the field at fault.",
    401: "There is no key, or it is unknown, revoked or has expired.",
    403: "The key does not have the scope that this needs, or another person has to decide.",
    404: "There is nothing by this name.",
    409: "It contradicts what is there, and `clashes` says which edits; or something else has changed meanwhile.",
    429: "Too many requests; the header `Retry-After` says when to ask again.",
    501: "This service does not do that.",
    503: "The store or the model cannot be reached now.",
}


class ErrorDetail(BaseModel):
    """What is wrong."""

    model_config = ConfigDict(title="ErrorDetail")

    message: str = Field(description="Names the input at fault, what was expected, and the way out.")
    type: str = Field(description="The kind of error.", examples=["invalid_request_error"])
    param: str | None = Field(default=None, description="The field at fault.", examples=["edits[0].prompt"])
    code: str | None = Field(default=None, description="A word for programs.", examples=["missing"])


class Problem(BaseModel):
    """An error, in the shape in which OpenAI's interface tells one."""

    error: ErrorDetail


class Conflict(Problem):
    """An error that says which edits contradict each other."""

    clashes: list[Clash] = Field(default=[], description="The edits that cannot both be active.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how a route's errors are described: those that it names, and those that any route has.

    Args:
        statuses: beside 400, 401, 403, 429 and 503, which any has.
    """
    told = sorted({400, 401, 403, 429, 503, *statuses})
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": Conflict if status == 409 else Problem, "description": _WHEN[status]} for status in told
    }
    # Where this is, no answer of FastAPI's own is described for what is not valid.
    found["default"] = {"model": Problem, "description": "Any other error has the same shape."}
    return found


def handle_errors(app: FastAPI) -> None:
    """Make an application tell every error in the one shape."""
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(HorenError, _failed)


def _answer(error: RefusalError, clashes: Sequence[Clash] | None = None) -> Response:
    content = error.shaped
    if clashes is not None:
        content |= {"clashes": jsonable_encoder(clashes)}
    return JSONResponse(content, error.status, error.headers)


def _refused(_: Request, error: Exception) -> Response:
    return _answer(cast("RefusalError", error))


def _failed(request: Request, error: Exception) -> Response:
    told = refusal(cast("HorenError", error))
    if told.status >= 500:
        request.state.error = error
    return _answer(told, getattr(error, "clashes", ()) if told.status == 409 else None)


def _http(_: Request, raised: Exception) -> Response:
    error = cast("HTTPException", raised)
    words = {
        400: ("The body cannot be read: send JSON in UTF-8.", "invalid_body"),
        404: ("There is nothing at this path: GET /openapi.json says what there is.", "not_found"),
        405: ("This path does not take that method: GET /openapi.json says which it takes.", "method_not_allowed"),
    }
    message, code = words.get(error.status_code, (str(error.detail), "error"))
    return _answer(RefusalError(error.status_code, message, code=code, headers=dict(error.headers or {})))


def _not_valid(_: Request, error: Exception) -> Response:
    return _answer(invalid(cast("RequestValidationError", error).errors()))


def invalid(errors: Sequence[Any]) -> RefusalError:
    """Return what is told of a request that is not as described.

    Args:
        errors: as pydantic tells them; what was given is not repeated, which may be long, private or no text.
    """
    first = errors[0]
    kind = str(first["type"])
    if kind == "json_invalid":
        place = first["loc"][-1]
        return RefusalError(400, f"The body is no JSON, at character {place}: write it anew.", code=kind)
    param = _named(first["loc"])
    others = f" ({len(errors) - 1} further fields are at fault too.)" if len(errors) > 1 else ""
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return RefusalError(400, f"{param or 'The body'}: {message}.{others}", param=param or None, code=kind)


def _named(place: Sequence[str | int]) -> str:
    """Return the name of a field, as ``edits[0].prompt``."""
    parts = [part for part in place[1:] if not (isinstance(part, str) and part.startswith("~"))]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return name.removeprefix(".")
