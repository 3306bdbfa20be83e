"""The types of an ASGI application, and how one refuses a request."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from horen.serve.refusals import RefusalError

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send", "address", "header", "refuse"]


async def refuse(error: RefusalError, send: Send) -> None:
    """Send a refusal as the whole answer."""
    headers = {"content-type": "application/json", "content-length": str(len(error.body))} | error.headers
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": error.body})


def header(scope: Scope, name: str) -> str | None:
    """Return a header of a request; None where it has none, and several as one with commas between."""
    found = Headers(scope=scope).getlist(name)
    return ",".join(found) if found else None


def address(scope: Scope) -> str:
    """Return the address that a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
