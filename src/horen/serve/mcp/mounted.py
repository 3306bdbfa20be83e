"""The tools at ``/mcp`` of a service, for whoever has a key of it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
from fastapi import FastAPI
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings

from horen.serve.mcp.caller import Caller
from horen.serve.mcp.tools import server

_PASSED = ("authorization", "host", "x-request-id")


def mount(app: FastAPI) -> AbstractAsyncContextManager[None]:
    """Add the tools to an application; return what has to be entered for as long as it runs.

    A tool asks the application itself, with the key of who called it: the same scopes hold, and the same limits.

    Args:
        app: of the service.
    """

    def caller_of(context: Context[Any, Any]) -> Caller:
        request: Any = context.request_context.request
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        client = (request.client.host, request.client.port) if request.client else ("unknown", 0)
        transport = httpx2.ASGITransport(app, client=client)
        return Caller(f"http://{request.headers['host']}", headers, transport)

    tools = server(caller_of)
    # Hosts and origins are checked for the whole application already.
    trusting = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    limit = app.state.service.settings.max_body
    inner = tools.streamable_http_app(
        streamable_http_path="/mcp",
        json_response=True,
        stateless_http=True,
        max_request_body_size=limit,
        transport_security=trusting,
    )
    app.router.routes.extend(inner.routes)
    return tools.session_manager.run()
