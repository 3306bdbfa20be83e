"""What routes answer with, made of what the store tells."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from horen.database.records import (
    About,
    Clash,
    Difference,
    Draft,
    EditSet,
    Event,
    Key,
    Scope,
    StoredEdit,
    Version,
)

_NEXT = Field(description="Asks for what comes behind this, as `before`; null at the end.")


class Answer(BaseModel):
    """What a route answers with."""

    model_config = ConfigDict(frozen=True)


class EditsFound(Answer):
    """A part of a list of edits, the newest first."""

    edits: tuple[StoredEdit, ...]
    next: int | None = _NEXT
    count: int | None = Field(description="How many there are in all; null where that was not asked.")


class EditTold(Answer):
    """An edit, and the versions that touched it."""

    edit: StoredEdit
    versions: tuple[Version, ...]


class FacetsTold(Answer):
    """By what edits can be looked for, and how many each finds."""

    tags: dict[str, int]
    authors: dict[str, int]
    sets: dict[str, int]


class Changed(Answer):
    """The version that a change has made."""

    version: Version


class DraftsTold(Answer):
    """Drafts that a request has made or changed."""

    drafts: tuple[Draft, ...]


class DraftsFound(DraftsTold):
    """A part of a list of drafts, the newest first."""

    next: int | None = _NEXT


class DraftTold(Answer):
    """A draft."""

    draft: Draft


class VersionsFound(Answer):
    """A part of a list of versions, the newest first."""

    versions: tuple[Version, ...]
    next: int | None = _NEXT


class DifferenceTold(Answer):
    """What makes one version another."""

    difference: Difference


class TagsTold(Answer):
    """Names of versions."""

    tags: dict[str, int] = Field(description="For each name the number of its version.")


class SetsTold(Answer):
    """Sets of edits."""

    sets: tuple[EditSet, ...]


class SetTold(Answer):
    """A set, and the version that changing it has made."""

    set: EditSet
    version: Version | None = Field(description="Null where nothing had to change that an answer depends on.")


class ClashesTold(Answer):
    """Which edits of two sets cannot both be active."""

    clashes: tuple[Clash, ...]


class KeysTold(Answer):
    """Keys, without their secrets."""

    keys: tuple[Key, ...]


class KeyTold(Answer):
    """A key."""

    key: Key


class KeyMade(KeyTold):
    """A key, and its secret, which is told this once."""

    secret: str = Field(description="What requests carry. It is stored nowhere: keep it.")


class EventsFound(Answer):
    """A part of the audit log, the latest first."""

    events: tuple[Event, ...]
    next: int | None = _NEXT


class EngineTold(Answer):
    """What answers, and how it is."""

    model: str = Field(description="The name under which it is asked.")
    context: int = Field(description="How many tokens a prompt and its answer have together at most.")
    ready: bool
    running: int = Field(description="How many requests it works at.")
    waiting: int = Field(description="How many wait for it.")
    version: int | None = Field(description="Of the store, that it answers with now.")
    why: str = Field(description="What is wrong where it is not ready.")


class You(Answer):
    """Who asks, and what they may."""

    actor: str
    scopes: tuple[Scope, ...]


class Rules(Answer):
    """How this service is run, as far as it matters to who asks."""

    four_eyes: bool = Field(description="Whether an edit is published by another than who drafted or revised it.")
    keep_prompts: bool = Field(description="Whether drafts are evaluated on frequent prompts.")
    explains: bool = Field(description="Whether `POST /explain` can be asked.")
    trains: bool | None = Field(description="Whether the service's own trainer works; null where it has none.")


class AboutTold(Answer):
    """The store, what answers, how the service is run, and who asks."""

    horen: str = Field(description="Version of the program.")
    store: About
    engine: EngineTold
    service: Rules
    you: You


class Alive(Answer):
    """That the process runs."""

    status: Literal["ok"] = "ok"


class Ready(Answer):
    """Whether requests are answered."""

    ready: bool
    why: str = Field(description="What is wrong where they are not.")
