"""The audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from horen.serve.api.answers import EventsFound
from horen.serve.api.errors import documented
from horen.serve.api.fields import Before, Here, Limit, Word
from horen.serve.auth import Principal, needs

router = APIRouter(tags=["audit"], responses=documented())


@router.get("/audit", summary="Who did what, when and why")
def find(
    here: Here,
    _: Annotated[Principal, needs("admin")],
    before: Before = None,
    limit: Limit = 50,
    actor: Annotated[Word | None, Query(description="Who did it.")] = None,
    action: Annotated[Word | None, Query(description='What was done, as "edit.publish".')] = None,
) -> EventsFound:
    """Return lines of the audit log, the latest first."""
    page = here.store.audit.list(before=before, limit=limit, actor=actor, action=action)
    return EventsFound(events=page.items, next=page.next)
