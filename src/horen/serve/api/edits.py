"""Published edits: looking for them, proposing, superseding, describing and removing them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Body as InBody
from fastapi import Query as InQuery
from pydantic import Field

from horen.database import Query
from horen.database.drafts import Proposal
from horen.database.edits import KEEP
from horen.database.records import EditState
from horen.serve.api.answers import Changed, DraftsTold, EditsFound, EditTold, FacetsTold
from horen.serve.api.errors import documented
from horen.serve.api.fields import (
    Before,
    Body,
    Here,
    Id,
    Limit,
    Name,
    Numbers,
    Reason,
    Rephrases,
    Tags,
    Text,
    Why,
    Word,
)
from horen.serve.api.proposals import EXAMPLE, EditsIn, Fate, Proposed, check_publish
from horen.serve.auth import Principal, needs

router = APIRouter(tags=["edits"], responses=documented())


class Description(Body):
    """What is said of an edit beside its texts; what is left out stays, and null takes it away."""

    subject: Word | None = None
    source: Word | None = None
    tags: Tags = Field(default=[])
    set: Name | None = None
    reason: Reason = ""


class Superseding(Fate):
    """Another target for an edit's prompt."""

    target: Text = Field(description="What the model shall answer from now on.")
    rephrases: Rephrases | None = Field(default=None, description="Other wordings; the edit's own where left out.")


class Removal(Body):
    """Edits that shall not answer any more."""

    ids: Numbers
    reason: Reason = ""


@router.get("/edits", summary="Look for edits")
def find(
    here: Here,
    _: Annotated[Principal, needs("read")],
    text: Annotated[Word | None, InQuery(description="Words that its texts or its subject have.")] = None,
    state: EditState | None = None,
    tag: Name | None = None,
    set: Annotated[Name | None, InQuery(description="Name of its set.")] = None,  # noqa: A002 - the field's name
    author: Annotated[Word | None, InQuery(description="Who proposed it.")] = None,
    subject: Annotated[Word | None, InQuery(description="Exactly this.")] = None,
    before: Before = None,
    limit: Limit = 50,
    count: Annotated[bool, InQuery(description="Whether to count them all.")] = False,
) -> EditsFound:
    """Return edits for which all that is given holds, the newest first."""
    query = Query(text, state, tag, set, author, subject)
    page = here.store.edits.list(query, before=before, limit=limit)
    return EditsFound(edits=page.items, next=page.next, count=here.store.edits.count(query) if count else None)


@router.get("/facets", summary="By what edits can be looked for")
def facets(here: Here, _: Annotated[Principal, needs("read")]) -> FacetsTold:
    """Return tags, authors and sets of published edits, each with how many it finds."""
    found = here.store.edits.facets()
    return FacetsTold(tags=found.tags, authors=found.authors, sets=found.sets)


@router.get("/edits/{id}", summary="One edit", responses=documented(404))
def one(here: Here, id: Id, _: Annotated[Principal, needs("read")]) -> EditTold:  # noqa: A002 - the path's name
    """Return an edit, published or retired, with the versions that touched it."""
    return EditTold(edit=here.store.edits.get(id), versions=here.store.versions.of_edit(id))


@router.post("/edits", summary="Propose edits", status_code=202, responses=documented(404, 409))
def add(
    here: Here,
    who: Annotated[Principal, needs("edit")],
    body: Annotated[Proposed, InBody(openapi_examples={"one": {"value": EXAMPLE}})],
) -> DraftsTold:
    """Make drafts of edits; a trainer takes them, and `GET /drafts/{id}` says how far it is."""
    check_publish(here, who, body)
    edits = body.edits if isinstance(body, EditsIn) else [body]
    prompts = here.prompts.frequent() if body.evaluate else ()
    proposals = [each.proposal(body, prompts) for each in edits]
    return DraftsTold(drafts=here.store.drafts.propose(proposals, who.by(body.reason)))


@router.post("/edits/remove", summary="Remove several edits", responses=documented(404))
def remove_several(here: Here, who: Annotated[Principal, needs("publish")], body: Removal) -> Changed:
    """Retire edits, all of them or none; `POST /undo` takes that back."""
    return Changed(version=here.store.edits.remove(body.ids, who.by(body.reason)))


@router.delete("/edits/{id}", summary="Remove an edit", responses=documented(404))
def remove(here: Here, id: Id, who: Annotated[Principal, needs("publish")], reason: Why = "") -> Changed:  # noqa: A002
    """Retire an edit; `POST /undo` takes that back."""
    return Changed(version=here.store.edits.remove([id], who.by(reason)))


@router.patch("/edits/{id}", summary="Describe an edit", responses=documented(404, 409))
def describe(
    here: Here,
    id: Id,  # noqa: A002 - the path's name
    who: Annotated[Principal, needs("publish")],
    body: Description,
) -> Changed:
    """Say something else of an edit beside its texts; what is left out stays."""
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set - {"reason"}}
    told = {name: given.get(name, KEEP) for name in ("subject", "source", "tags", "set")}
    return Changed(version=here.store.edits.describe([id], who.by(body.reason), **told))


@router.post(
    "/edits/{id}/supersede", summary="Give an edit another target", status_code=202, responses=documented(404, 409)
)
def supersede(
    here: Here,
    id: Id,  # noqa: A002 - the path's name
    who: Annotated[Principal, needs("edit")],
    body: Superseding,
) -> DraftsTold:
    """Make a draft with an edit's prompt and another target, which replaces the edit when it is published."""
    check_publish(here, who, body)
    old = here.store.edits.get(id)
    rephrases = old.rephrases if body.rephrases is None else tuple(body.rephrases)
    proposal = Proposal(
        old.prompt,
        body.target,
        rephrases,
        facts=old.facts,
        replaces=(id,),
        publish=body.publish,
        evaluate=body.evaluate,
        prompts=here.prompts.frequent() if body.evaluate else (),
    )
    return DraftsTold(drafts=here.store.drafts.propose([proposal], who.by(body.reason)))
