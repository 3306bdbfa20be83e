"""Why a text wakes an edit, or why it does not."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from horen.edits import Explanation
from horen.serve.api.errors import documented
from horen.serve.api.fields import Body, Here, Text
from horen.serve.auth import Principal, needs
from horen.serve.openai.requests import WantedBody
from horen.serve.refusals import RefusalError
from horen.serve.wanting import wanted

router = APIRouter(tags=["explain"], responses=documented(404, 501))


class Message(Body):
    """A message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Question(Body):
    """A text or a conversation, whose way is explained."""

    prompt: Text | None = Field(default=None, description="A text.", examples=["Who leads Fennick Robotics?"])
    messages: Annotated[list[Message], Field(min_length=1, max_length=1_000)] | None = Field(
        default=None, description="A conversation; its last user message is what is asked."
    )
    horen: WantedBody = Field(default_factory=WantedBody, description="Which edits may answer, as in `/v1`.")
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
        found = here.explainer.explain(asked or "", wanted(here.store, body.horen), body.nearest)
        told({"horen.edit": found.edit_id, "horen.score": found.score, "horen.fired": found.fired})
    return found
