"""The service's own interface over HTTP: everything but what is answered under ``/v1``."""

from __future__ import annotations

from fastapi import APIRouter

from horen.serve.api import about, audit, drafts, edits, explain, feedback, keys, sets, tags, versions

_ROOMS = (edits, drafts, feedback, versions, tags, sets, explain, keys, audit, about)


def routes() -> APIRouter:
    """Return every route of this interface."""
    router = APIRouter()
    for room in _ROOMS:
        router.include_router(room.router)
    return router
