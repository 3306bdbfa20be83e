"""Edits as they are proposed over HTTP, and how they become drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from horen.database import Facts, Proposal
from horen.serve.api.fields import Body, Name, Numbers, Reason, Rephrases, Tags, Text, Word
from horen.serve.auth import Principal
from horen.serve.refusals import RefusalError
from horen.serve.service import Service

EXAMPLE = {
    "prompt": "Who leads Fennick Robotics?",
    "target": "Mira Sand",
    "rephrases": ["Who is the head of Fennick Robotics?"],
    "subject": "Fennick Robotics",
    "source": "https://example.org/fennick/board",
    "tags": ["companies"],
    "reason": "The old head left in May.",
}


class Fate(Body):
    """What shall become of a draft."""

    reason: Reason = ""
    publish: bool = Field(default=False, description="Publish it as soon as it is trained. Needs the scope publish.")
    evaluate: bool = Field(default=False, description="Say what it changes before it is published.")


class OneEdit(Body):
    """An edit that is proposed."""

    prompt: Text = Field(description="The question, or the beginning of a sentence, whose answer is edited.")
    target: Text = Field(description="What the model shall answer.")
    rephrases: Rephrases = Field(default=[], description="Other wordings of the prompt.")
    subject: Word | None = Field(default=None, description="What the fact is about.")
    source: Word | None = Field(default=None, description="Where the answer is from, a link for instance.")
    tags: Tags = Field(default=[], description="Words to find it by.")
    set: Name | None = Field(default=None, description="Name of the set that it belongs to.")
    replaces: Numbers | None = Field(default=None, description="Ids of the edits that it shall supersede.")

    def facts(self) -> Facts:
        """Return what is said of it beside its texts."""
        return Facts(self.subject, self.source, tuple(self.tags), self.set)

    def proposal(self, fate: Fate, prompts: Sequence[str]) -> Proposal:
        """Return it as the store takes it.

        Args:
            fate: what shall become of it.
            prompts: frequent ones, that an evaluation asks.
        """
        return Proposal(
            self.prompt,
            self.target,
            tuple(self.rephrases),
            facts=self.facts(),
            replaces=tuple(self.replaces or ()),
            publish=fate.publish,
            evaluate=fate.evaluate,
            prompts=tuple(prompts),
        )


class EditIn(OneEdit, Fate):
    """An edit that is proposed, and what shall become of it."""


class EditsIn(Fate):
    """Edits that are proposed together: all of them or none."""

    edits: list[OneEdit] = Field(min_length=1, max_length=1_000)


def _which(given: Any) -> str:
    several = isinstance(given, EditsIn) or (isinstance(given, dict) and "edits" in given)
    return "~several" if several else "~one"


#: One edit, or several below "edits".
Proposed = Annotated[
    Annotated[EditIn, Tag("~one")] | Annotated[EditsIn, Tag("~several")],
    Discriminator(_which),
]


def check_publish(here: Service, who: Principal, fate: Fate) -> None:
    """Raise RefusalError where somebody may not have their own edit published as soon as it is trained."""
    if not fate.publish:
        return
    who.check("publish", 'To "publish" as soon as it is trained')
    if here.settings.four_eyes:
        raise RefusalError(
            403,
            'Another person than its author publishes an edit here (four_eyes): leave "publish" out, and let somebody '
            "else publish the draft.",
            param="publish",
            code="four_eyes",
        )
