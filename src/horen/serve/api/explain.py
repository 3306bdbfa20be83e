"""Why a text wakes an edit, or why it does not."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from horen.edits import Explanation
from horen.serve.api.errors import documented
from horen.serve.api.fields import LARGEST, Body, Here, Name, Number, Text
from horen.serve.auth import Principal, needs
from horen.serve.engines.interface import Wanted
from horen.serve.refusals import RefusalError
from horen.serve.service import Service

router = APIRouter(tags=["explain"], responses=documented(404, 501))


class Message(Body):
    """A message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class WantedIn(Body):
    """Which edits may answer; as requests to ``/v1`` say it."""

    edits: Literal["on", "off"] = Field(default="on", description="`off`: no edit answers.")
    version: Annotated[int, Field(ge=0, le=LARGEST)] | None = Field(
        default=None, description="Of the store; null for the last."
    )
    tags: list[Name] | None = Field(default=None, description="Only edits that have one of these tags may answer.")
    without_tags: list[Name] = Field(default=[], description="Edits that have one of these tags may not.")
    only: list[Number] | None = Field(default=None, description="Only edits with these ids may answer.")
    without: list[Number] = Field(default=[], description="Edits with these ids may not.")
    without_sets: list[Name] = Field(default=[], description="Edits of these sets may not.")


class Question(Body):
    """A text or a conversation, whose way is explained."""

    prompt: Text | None = Field(default=None, description="A text.", examples=["Who leads Fennick Robotics?"])
    messages: Annotated[list[Message], Field(min_length=1, max_length=1_000)] | None = Field(
        default=None, description="A conversation; its last user message is what is asked."
    )
    horen: WantedIn = Field(default_factory=WantedIn)
    nearest: int = Field(default=5, ge=1, le=50, description="How many of the nearest edits are told.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


@router.post("/explain", summary="Why an edit answers")
def explain(here: Here, who: Annotated[Principal, needs()], body: Question) -> Explanation:
    """Return where a text goes, without an answer; needs the scope ask or read."""
    if not who.may("ask"):
        who.check("read")
    if here.explainer is None:
        raise RefusalError(501, "This service's engine does not say where prompts go: ask another.", code="not_here")
    asked = body.prompt if body.messages is None else [message.model_dump() for message in body.messages]
    with here.tracing.span("horen.route") as told:
        found = here.explainer.explain(asked or "", wanted(here, body.horen), body.nearest)
        told({"horen.edit": found.edit_id, "horen.score": found.score, "horen.fired": found.fired})
    return found


def wanted(here: Service, told: WantedIn) -> Wanted:
    """Return which edits may answer, by their ids.

    Raises:
        StoreError: when the store cannot be read.
    """
    only = None if told.only is None else frozenset(told.only)
    if told.tags is not None or told.without_tags or told.without_sets:
        found = here.store.edits.ids(
            tags=told.tags or (), without_tags=told.without_tags, without_sets=told.without_sets
        )
        only = found if only is None else only & found
    return Wanted(told.edits == "on", told.version, only, frozenset(told.without))
