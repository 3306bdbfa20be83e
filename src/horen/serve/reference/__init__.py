"""The interface's description for people: a page that reads ``/openapi.json`` and lets its routes be tried."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from horen.serve.refusals import RefusalError

_HERE = Path(__file__).parent
# The page loads nothing from elsewhere, and has no script of its own in it: both are refused by its own policy.
_OURS = ("start.js", "page.css")
_THEIRS = ("swagger-ui-bundle.js", "swagger-ui.css")


def reference() -> APIRouter:
    """Return the routes of the page."""
    # Where the files are is all that is asked of the package; its code is not run.
    spec = importlib.util.find_spec("swagger_ui")
    places = spec.submodule_search_locations if spec is not None else None
    theirs = Path(next(iter(places or ()))) / "static"
    files = {name: _HERE / name for name in _OURS} | {name: theirs / name for name in _THEIRS}
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def page() -> Response:
        return FileResponse(_HERE / "page.html")

    @router.get("/docs/{name}")
    async def part(name: str) -> Response:
        if name not in files:
            raise RefusalError(404, "There is nothing at this path: GET /docs has the page.", code="not_found")
        return FileResponse(files[name], headers={"cache-control": "public, max-age=3600"})

    return router
