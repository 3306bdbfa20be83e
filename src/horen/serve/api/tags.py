"""Names of versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from horen.errors import EditNotFoundError
from horen.serve.api.answers import TagsTold
from horen.serve.api.errors import documented
from horen.serve.api.fields import LARGEST, Body, Called, Here, Name, Reason
from horen.serve.api.versions import number
from horen.serve.auth import Principal, needs

router = APIRouter(prefix="/tags", tags=["versions"], responses=documented())


class Naming(Body):
    """Which version a name is given to."""

    version: Annotated[int, Field(ge=0, le=LARGEST)] | Name | None = Field(
        default=None, description="Its number or another name of it; the last one where left out."
    )
    reason: Reason = ""


@router.get("", summary="Names of versions")
def find(here: Here, _: Annotated[Principal, needs("read")]) -> TagsTold:
    """Return every name that was given to a version."""
    return TagsTold(tags=here.store.versions.tags())


@router.put("/{name}", summary="Name a version", responses=documented(404, 409))
def put(here: Here, name: Called, who: Annotated[Principal, needs("publish")], body: Naming | None = None) -> TagsTold:
    """Give a version a name, by which it can be asked for."""
    given = body or Naming()
    wanted = here.store.version if given.version is None else number(here, given.version)
    here.store.versions.tag(name, wanted, who.by(given.reason))
    return find(here, who)


@router.delete("/{name}", summary="Take a name back", responses=documented(404))
def delete(here: Here, name: Called, who: Annotated[Principal, needs("publish")]) -> TagsTold:
    """Take a version's name back; the version stays."""
    if name not in here.store.versions.tags():
        raise EditNotFoundError(f"No version is called {name!r}: GET /tags says which names there are.")
    here.store.versions.untag(name, who.by())
    return find(here, who)
