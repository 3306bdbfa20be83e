"""Drafts: edits that are proposed, from training to the decision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from horen.database.records import Draft, DraftState
from horen.serve.api.answers import Changed, DraftsFound, DraftTold
from horen.serve.api.errors import documented
from horen.serve.api.fields import Before, Body, Here, Id, Limit, Name, Numbers, Reason, Rephrases, Tags, Text, Word
from horen.serve.auth import Principal, needs
from horen.serve.refusals import RefusalError
from horen.serve.service import Service

router = APIRouter(tags=["drafts"], responses=documented())

_SETTLED = frozenset({"failed", "published", "rejected"})
# How often a draft is looked at while somebody waits for news of it, in seconds.
_LOOK = 0.4


class Revision(Body):
    """What shall be other in a draft; what is left out stays, and null takes it away."""

    prompt: Text | None = None
    target: Text | None = None
    rephrases: Rephrases | None = None
    subject: Word | None = None
    source: Word | None = None
    tags: Tags = Field(default=[])
    set: Name | None = None
    replaces: list[Annotated[int, Field(ge=1)]] | None = None
    reason: Reason = ""


class Publication(Body):
    """The decision to publish a draft."""

    reason: Reason = ""
    replaces: Numbers | None = Field(default=None, description="Ids of the edits that it supersedes, as decided now.")


class Decision(Body):
    """Why something is decided."""

    reason: Reason = ""


@router.get("/drafts", summary="Look for drafts")
def find(
    here: Here,
    _: Annotated[Principal, needs("read")],
    state: DraftState | None = None,
    before: Before = None,
    limit: Limit = 50,
) -> DraftsFound:
    """Return drafts, the newest first."""
    page = here.store.drafts.list(state, before=before, limit=limit)
    return DraftsFound(drafts=page.items, next=page.next)


@router.get("/drafts/{id}", summary="One draft", responses=documented(404))
def one(here: Here, id: Id, _: Annotated[Principal, needs("read")]) -> DraftTold:  # noqa: A002 - the path's name
    """Return a draft, with its receipt and its evaluation as far as they are there."""
    return DraftTold(draft=here.store.drafts.get(id))


def _watched(here: Here, id: Id, _: Annotated[Principal, needs("read")]) -> Draft:  # noqa: A002 - the path's name
    """Return the draft of which somebody wants news, before the first is sent."""
    if here.life.streams >= here.settings.max_streams:
        raise RefusalError(
            429,
            f"{here.settings.max_streams} streams of events are open, and no more are opened: ask again.",
            code="too_many_streams",
            headers={"retry-after": "5"},
        )
    return here.store.drafts.get(id)


@router.get(
    "/drafts/{id}/events",
    summary="News of a draft",
    response_class=EventSourceResponse,
    responses=documented(404),
)
async def events(here: Here, draft: Annotated[Draft, Depends(_watched)]) -> AsyncIterator[ServerSentEvent]:
    """Send a draft, and again whenever it changes, until it has failed, is published or rejected.

    A stream ends by itself after some minutes too: ask for another then.
    """
    here.life.streams += 1
    try:
        async for each in _news(here, draft):
            yield ServerSentEvent(event="draft", id=str(each.id), data=DraftTold(draft=each))
    finally:
        here.life.streams -= 1


async def _news(here: Service, draft: Draft) -> AsyncIterator[Draft]:
    """Yield a draft, and again whenever it has changed, until it is settled or the stream's time is over."""
    yield draft
    end = time.monotonic() + here.settings.stream_seconds
    while draft.state not in _SETTLED and time.monotonic() < end and not here.life.ending:
        await asyncio.sleep(_LOOK)
        now = await run_in_threadpool(here.store.drafts.get, draft.id)
        if now != draft:
            draft = now
            yield draft


@router.patch("/drafts/{id}", summary="Revise a draft", responses=documented(404))
def revise(
    here: Here,
    id: Id,  # noqa: A002 - the path's name
    who: Annotated[Principal, needs("edit")],
    body: Revision,
) -> DraftTold:
    """Change a draft that is not decided yet; it is trained anew."""
    old = here.store.drafts.get(id)
    if old.publish:
        # Else what somebody else has written would be published in the name of who may.
        who.check("publish", "To revise a draft that is published as soon as it is trained")
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set - {"reason"}}
    return DraftTold(draft=here.store.drafts.revise(id, who.by(body.reason), **_changes(old, given)))


def _changes(old: Draft, given: dict[str, Any]) -> dict[str, Any]:
    """Return what a store is told of a revision.

    Args:
        old: the draft before it.
        given: fields of the request; null takes away what may be missing.
    """
    changes: dict[str, Any] = {}
    for name in ("prompt", "target"):
        if given.get(name) is not None:
            changes[name] = given[name]
    for name in ("rephrases", "replaces"):
        if name in given:
            changes[name] = tuple(given[name] or ())
    facts: dict[str, Any] = {name: given[name] for name in ("subject", "source", "set") if name in given}
    if "tags" in given:
        facts["tags"] = tuple(given["tags"])
    if facts:
        changes["facts"] = replace(old.facts, **facts)
    return changes


@router.post("/drafts/{id}/evaluate", summary="Evaluate a draft", status_code=202, responses=documented(404))
def evaluate(here: Here, id: Id, who: Annotated[Principal, needs("edit")], body: Decision | None = None) -> DraftTold:  # noqa: A002
    """Have a trainer say what a draft changes: its own questions, its neighbours, and prompts that are asked often."""
    by = who.by(body.reason if body else None)
    return DraftTold(draft=here.store.drafts.evaluate(id, by, prompts=here.prompts.frequent()))


@router.post("/drafts/{id}/publish", summary="Publish a draft", responses=documented(404, 409))
def publish(
    here: Here,
    id: Id,  # noqa: A002 - the path's name
    who: Annotated[Principal, needs("publish")],
    body: Publication | None = None,
) -> Changed:
    """Make an edit of a draft that is ready; from then on it answers."""
    given = body or Publication()
    replaces = {} if given.replaces is None else {id: tuple(given.replaces)}
    by = who.by(given.reason)
    version = here.store.drafts.publish([id], by, replaces=replaces, four_eyes=here.settings.four_eyes)
    return Changed(version=version)


@router.post("/drafts/{id}/reject", summary="Reject a draft", responses=documented(404))
def reject(
    here: Here,
    id: Id,  # noqa: A002 - the path's name
    who: Annotated[Principal, needs("edit")],
    body: Decision | None = None,
) -> DraftTold:
    """Decide that a draft shall not become an edit; that of another needs the scope publish."""
    if here.store.drafts.get(id).author != who.actor:
        who.check("publish", "To reject a draft of another")
    return DraftTold(draft=here.store.drafts.reject([id], who.by(body.reason if body else None))[0])
