"""Around every request: its id, its line in the log, its count, and an answer where nothing else gives one."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers

from horen.errors import HorenError
from horen.serve import asgi
from horen.serve.refusals import RefusalError
from horen.serve.statuses import refusal
from horen.serve.telemetry import logs
from horen.serve.telemetry.metrics import Metrics
from horen.serve.telemetry.noted import Noted, begin
from horen.serve.telemetry.tracing import Tracing

_SANE = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
_HEADER = "x-request-id"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Requests:
    """Stands around the whole application.

    It gives each request an id, or takes that of its ``X-Request-ID``; it answers with what is raised, with status 500
    for what nobody foresaw; and when the answer has ended it counts it and writes a line.

    Args:
        app: what is called.
        metrics: that count it.
        tracing: that makes a span of it.
    """

    def __init__(self, app: asgi.ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app, self._metrics, self._tracing = app, metrics, tracing

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._tracing.request(_method(scope), Headers(scope=scope)) as traced:
            status = await self._answer(scope, receive, send)
            traced(template(scope), status)

    async def _answer(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> int:
        """Call the application, note what comes of it, and return the status of its answer."""
        given = asgi.header(scope, _HEADER) or ""
        noted = begin(given if _SANE.fullmatch(given) else uuid.uuid4().hex)
        began, status = time.perf_counter(), 0

        async def told(message: asgi.Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (_HEADER.encode(), noted.id.encode())]}
            await send(message)

        failure: BaseException | None = None
        try:
            await self._app(scope, receive, told)
        except Exception as error:  # whatever it is, the client is told something, and the log has it
            refused = refusal(error) if isinstance(error, HorenError) else _unforeseen(noted.id)
            failure = error if status or refused.status >= 500 else None
            if not status:
                await asgi.refuse(refused, told)
        finally:
            self._end(scope, noted, status, time.perf_counter() - began, failure)
        return status

    def _end(self, scope: asgi.Scope, noted: Noted, status: int, seconds: float, failure: BaseException | None) -> None:
        """Count a request and write its line."""
        route, method = template(scope), _method(scope)
        self._metrics.requested(method, route, status, seconds)
        state = scope.get("state", {})
        failure = failure or state.get("error")
        principal = state.get("principal")
        fields: dict[str, Any] = {
            "request": noted.id,
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "actor": None if principal is None else principal.actor,
        }
        level = logging.ERROR if status >= 500 and failure is not None else logging.INFO
        logs.requests.log(level, "request", exc_info=failure, extra={"fields": fields | noted.fields})


def _method(scope: asgi.Scope) -> str:
    """Return a request's method; "other" for what nobody knows."""
    return scope["method"] if scope["method"] in _METHODS else "other"


def _unforeseen(request: str) -> RefusalError:
    """Return what a client is told of a failure that nobody foresaw."""
    message = f"The service failed; its log has more under the request's id {request}."
    return RefusalError(500, message, code="internal_error")


def template(scope: asgi.Scope) -> str:
    """Return the template of the route that a request came to; "none" where it came to none."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return str(path) if path else "none"
