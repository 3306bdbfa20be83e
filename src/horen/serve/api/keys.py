"""Keys of the service."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, Field

from horen.database.records import Scope
from horen.serve.api.answers import KeyMade, KeysTold, KeyTold
from horen.serve.api.errors import documented
from horen.serve.api.fields import Body, Here, Id, Name, Reason, moment
from horen.serve.auth import LOCAL, Principal, needs
from horen.serve.refusals import RefusalError

router = APIRouter(prefix="/keys", tags=["keys"], responses=documented())


class KeyIn(Body):
    """A key that shall be made."""

    name: Name = Field(description="Who holds it; what edits and the audit log call the actor.", examples=["mira"])
    scopes: list[Scope] = Field(min_length=1, max_length=5, examples=[["ask", "read"]])
    expires: Annotated[str, AfterValidator(moment)] | None = Field(
        default=None, description="Time from which it is not taken any more.", examples=["2030-01-31T12:00:00Z"]
    )
    reason: Reason = ""


@router.get("", summary="All keys")
def find(here: Here, _: Annotated[Principal, needs("admin")]) -> KeysTold:
    """Return every key without its secret, revoked ones too."""
    return KeysTold(keys=here.store.keys.list())


@router.post("", summary="Make a key", status_code=201, responses=documented(409))
def make(here: Here, who: Annotated[Principal, needs("admin")], body: KeyIn) -> KeyMade:
    """Make a key; its secret is told this once."""
    if body.name == LOCAL:
        raise RefusalError(
            400,
            f"{LOCAL!r} is what everybody on this machine is called: choose another name.",
            param="name",
            code="taken",
        )
    if "admin" not in body.scopes and not here.store.keys.any():
        raise RefusalError(
            400,
            'The first key must have the scope "admin": from then on every request needs a key, and none could make '
            "another.",
            param="scopes",
            code="first_key",
        )
    scopes = tuple(dict.fromkeys(body.scopes))
    key, secret = here.store.keys.make(body.name, scopes, who.by(body.reason), expires=body.expires)
    return KeyMade(key=key, secret=secret)


@router.post("/{id}/rotate", summary="Give a key another secret", responses=documented(404))
def rotate(here: Here, id: Id, who: Annotated[Principal, needs("admin")]) -> KeyMade:  # noqa: A002 - the path's name
    """Give a key another secret; the one before is not taken any more."""
    key, secret = here.store.keys.rotate(id, who.by())
    return KeyMade(key=key, secret=secret)


@router.delete("/{id}", summary="Revoke a key", responses=documented(404))
def revoke(here: Here, id: Id, who: Annotated[Principal, needs("admin")]) -> KeyTold:  # noqa: A002 - the path's name
    """Take a key back for good."""
    return KeyTold(key=here.store.keys.revoke(id, who.by()))
