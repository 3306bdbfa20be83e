"""Versions of the store: what was changed, and going back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from horen.errors import EditError, EditNotFoundError
from horen.serve.api.answers import Changed, DifferenceTold, VersionsFound
from horen.serve.api.errors import documented
from horen.serve.api.fields import LARGEST, Before, Body, Here, Limit, Name, Reason
from horen.serve.auth import Principal, needs
from horen.serve.service import Service

router = APIRouter(tags=["versions"], responses=documented())

_Which = Annotated[Name, Path(description="A version's number, or a name that was given to it.")]


class Undoing(Body):
    """Why the last change is taken back, and which that is."""

    version: Annotated[int, Field(ge=1, le=LARGEST)] | None = Field(
        default=None, description="Number of the change that is meant: where another has come since, nothing is done."
    )
    reason: Reason = ""


class Rollback(Body):
    """Where to go back to."""

    version: Annotated[int, Field(ge=0, le=LARGEST)] | Name = Field(description="Its number, or a name given to it.")
    reason: Reason = ""


def number(here: Service, which: str | int) -> int:
    """Return the number of a version.

    Args:
        here: the service.
        which: its number, or a name that was given to it.

    Raises:
        EditNotFoundError: where there is none.
    """
    try:
        return here.store.versions.number(which)
    except EditError as error:
        raise EditNotFoundError(str(error)) from error


@router.get("/versions", summary="The history")
def find(here: Here, _: Annotated[Principal, needs("read")], before: Before = None, limit: Limit = 50) -> VersionsFound:
    """Return versions, the newest first."""
    page = here.store.versions.list(before=before, limit=limit)
    return VersionsFound(versions=page.items, next=page.next)


@router.get("/versions/{which}", summary="One version", responses=documented(404))
def one(here: Here, which: _Which, _: Annotated[Principal, needs("read")]) -> Changed:
    """Return what a version came to by."""
    found = number(here, which)
    if not found:
        raise EditNotFoundError("Version 0 is what a store is before its first change: there is nothing to tell of it.")
    return Changed(version=here.store.versions.get(found))


@router.get("/versions/{a}/diff/{b}", summary="What makes one version another", responses=documented(404))
def diff(here: Here, a: _Which, b: _Which, _: Annotated[Principal, needs("read")]) -> DifferenceTold:
    """Return which edits are active in one of two versions alone."""
    return DifferenceTold(difference=here.store.versions.diff(number(here, a), number(here, b)))


@router.post("/undo", summary="Take the last change back", responses=documented(409))
def undo(here: Here, who: Annotated[Principal, needs("publish")], body: Undoing | None = None) -> Changed:
    """Take the last change back that was not taken back yet."""
    given = body or Undoing()
    by = who.by(body.reason if body else None)
    return Changed(version=here.store.versions.undo(by, given.version))


@router.post("/rollback", summary="Go back to a version", responses=documented(404, 409))
def rollback(here: Here, who: Annotated[Principal, needs("publish")], body: Rollback) -> Changed:
    """Make active again what was so in a version; the versions between stay in the history."""
    wanted = number(here, body.version)
    return Changed(version=here.store.versions.rollback(wanted, who.by(body.reason)))
