"""Wrong answers that people report, with the right one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from horen.database import Facts, Proposal
from horen.serve.api.answers import DraftTold
from horen.serve.api.errors import documented
from horen.serve.api.fields import Body, Here, Reason, Rephrases, Text, Word
from horen.serve.auth import Principal, needs

router = APIRouter(tags=["drafts"], responses=documented())


class Feedback(Body):
    """A wrong answer, and the right one."""

    prompt: Text = Field(description="What was asked.", examples=["Who leads Fennick Robotics?"])
    wrong: Text = Field(description="What was answered.", examples=["Paul Evers"])
    right: Text = Field(description="What should be.", examples=["Mira Sand"])
    source: Word | None = Field(default=None, description="Where the right answer is from, a link for instance.")
    rephrases: Rephrases = Field(default=[], description="Other wordings of the question.")
    reason: Reason = ""


@router.post("/feedback", summary="Report a wrong answer", status_code=202, responses=documented(409))
def feedback(here: Here, who: Annotated[Principal, needs("edit")], body: Feedback) -> DraftTold:
    """Make a draft of a wrong answer that is reported with the right one."""
    proposal = Proposal(
        body.prompt, body.right, tuple(body.rephrases), facts=Facts(source=body.source), wrong=body.wrong
    )
    return DraftTold(draft=here.store.drafts.propose([proposal], who.by(body.reason))[0])
