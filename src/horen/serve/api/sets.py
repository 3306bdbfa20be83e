"""Sets of edits, which are switched on and off together."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from horen.database.records import EditSet, Version
from horen.errors import EditNotFoundError
from horen.serve.api.answers import Changed, ClashesTold, SetsTold, SetTold
from horen.serve.api.errors import documented
from horen.serve.api.fields import Body, Called, Here, Name, Reason, Why
from horen.serve.auth import Principal, needs
from horen.serve.service import Service

router = APIRouter(prefix="/sets", tags=["sets"], responses=documented())


class SetIn(Body):
    """How a set shall be."""

    on: bool = Field(default=True, description="Whether its edits can answer.")
    reason: Reason = ""


class Switching(Body):
    """Whether a set's edits can answer from now on."""

    on: bool
    reason: Reason = ""


class Merging(Body):
    """Which set comes into another."""

    other: Name = Field(description="Name of the set whose edits come into this one; it is gone then.")
    on_conflict: Literal["error", "ours", "theirs"] = Field(
        default="error", description="Which edit stays where two contradict each other; with error nothing is done."
    )
    reason: Reason = ""


@router.get("", summary="All sets")
def find(here: Here, _: Annotated[Principal, needs("read")]) -> SetsTold:
    """Return every set, with how many published edits it has."""
    return SetsTold(sets=here.store.sets.list())


@router.put("/{name}", summary="Make a set", responses=documented(409))
def put(here: Here, name: Called, who: Annotated[Principal, needs("publish")], body: SetIn | None = None) -> SetTold:
    """Make a set, or switch it where it is there and is told to be otherwise."""
    given, by = body or SetIn(), who.by(body.reason if body else None)
    version: Version | None = None
    old = next((each for each in here.store.sets.list() if each.name == name), None)
    if old is None:
        here.store.sets.make(name, by, on=given.on)
    elif old.on != given.on and "on" in given.model_fields_set:
        version = here.store.sets.switch(name, given.on, by)
    return SetTold(set=_set(here, name), version=version)


@router.post("/{name}/switch", summary="Switch a set on or off", responses=documented(404, 409))
def switch(here: Here, name: Called, who: Annotated[Principal, needs("publish")], body: Switching) -> SetTold:
    """Let a set's edits answer, or keep them from it."""
    _set(here, name)
    version = here.store.sets.switch(name, body.on, who.by(body.reason))
    return SetTold(set=_set(here, name), version=version)


@router.get("/{name}/clashes/{other}", summary="What two sets contradict each other in", responses=documented(404))
def clashes(here: Here, name: Called, other: Called, _: Annotated[Principal, needs("read")]) -> ClashesTold:
    """Return which edits of two sets cannot both be active in one."""
    for each in (name, other):
        _set(here, each)
    return ClashesTold(clashes=here.store.sets.clashes(name, other))


@router.post("/{name}/merge", summary="Merge another set into one", responses=documented(404, 409))
def merge(here: Here, name: Called, who: Annotated[Principal, needs("publish")], body: Merging) -> SetTold:
    """Move the edits of another set into this one."""
    for each in (name, body.other):
        _set(here, each)
    version = here.store.sets.merge(name, body.other, who.by(body.reason), on_conflict=body.on_conflict)
    return SetTold(set=_set(here, name), version=version)


@router.delete("/{name}", summary="Drop a set", responses=documented(404, 409))
def drop(here: Here, name: Called, who: Annotated[Principal, needs("publish")], reason: Why = "") -> Changed:
    """Drop a set; its edits stay, and belong to none."""
    _set(here, name)
    return Changed(version=here.store.sets.drop(name, who.by(reason)))


def _set(here: Service, name: str) -> EditSet:
    """Return a set.

    Raises:
        EditNotFoundError: where there is none of this name.
    """
    for each in here.store.sets.list():
        if each.name == name:
            return each
    raise EditNotFoundError(f"There is no set {name!r}: GET /sets says which there are.")
