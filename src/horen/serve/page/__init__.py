"""The page: what people who are no programmers use; static files, and no step that builds them."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from horen.serve import asgi

#: Where its files are.
FOLDER = Path(__file__).parent
# A browser asks each time whether a file is still what it has: their names stay when a new release changes them.
_CACHED = (b"cache-control", b"no-cache")


def add_page(app: FastAPI) -> None:
    """Let an application tell the page at ``/``, and its files below ``/assets``.

    Nothing in them is of the store: they are told without a key.
    """
    app.mount("/assets", _Revalidated(GZipMiddleware(StaticFiles(directory=FOLDER / "assets"))), "assets")
    app.add_route("/", _page, methods=["GET"], include_in_schema=False)


async def _page(_: Request) -> Response:
    """Return the page."""
    return FileResponse(FOLDER / "index.html", headers={"cache-control": "no-cache"})


class _Revalidated:
    """Says of every file that a browser may keep it, and has to ask whether it has changed.

    Args:
        app: what tells the files.
    """

    def __init__(self, app: asgi.ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application."""

        async def told(message: asgi.Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], _CACHED]}
            await send(message)

        await self._app(scope, receive, told)
