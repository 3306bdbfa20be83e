"""What a store tells: edits with who, when and why; drafts, versions, differences, sets, keys, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from horen.database.checks import check_name, check_text

Item = TypeVar("Item")

#: What an edit is: published, or retired (removed, superseded, undone or rolled back). Its set may be off besides.
EditState = Literal["published", "retired"]
#: What a draft is: waiting for a trainer, in training, ready to be published, failed, published, rejected.
DraftState = Literal["waiting", "training", "ready", "failed", "published", "rejected"]
#: Those of a draft that is not settled yet.
OPEN: tuple[DraftState, ...] = ("waiting", "training", "ready", "failed")
#: What may be done with a key; each but "admin" is one thing, and "admin" is all.
Scope = Literal["ask", "read", "edit", "publish", "admin"]
SCOPES: tuple[Scope, ...] = ("ask", "read", "edit", "publish", "admin")


@dataclass(frozen=True)
class By:
    """Who does something, and why.

    Attributes:
        actor: the name of a key, of a user of this machine, or of a program.
        reason: in the actor's own words; may be empty.

    Raises:
        EditError: for a text that cannot be stored, or an actor without a name.
    """

    actor: str
    reason: str = ""

    def __post_init__(self) -> None:
        check_name(self.actor, "name of the actor")
        check_text(self.reason, "reason")


@dataclass(frozen=True)
class Facts:
    """What a person says of an edit beside its texts.

    Attributes:
        subject: what the fact is about.
        source: where the right answer is from, a link for instance.
        tags: words to find it by, each once, in order.
        set: name of the set it belongs to; None for none.
    """

    subject: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()
    set: str | None = None


@dataclass(frozen=True)
class StoredEdit:
    """An edit of a store.

    Attributes:
        id: number of the edit, given in order of publication and never used again.
        prompt: as given.
        target: as given.
        rephrases: as given.
        facts: see :class:`Facts`.
        author: who proposed it.
        reason: why.
        created: time of its training, ISO 8601 in UTC.
        version: in which it was published.
        state: see :data:`EditState`.
        active: whether it can answer now: it is published, and its set is switched on.
        replaces: ids of the edits that it superseded.
        draft: id of the draft that it was; None where it was none.
        receipt: how its training went: loss, steps, converged, reused.
    """

    id: int
    prompt: str
    target: str
    rephrases: tuple[str, ...]
    facts: Facts
    author: str
    reason: str
    created: str
    version: int
    state: EditState
    active: bool
    replaces: tuple[int, ...] = ()
    draft: int | None = None
    receipt: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """An edit that is proposed.

    Attributes:
        id: number of the draft.
        state: see :data:`DraftState`.
        prompt: see :class:`StoredEdit`, as those that follow.
        target: likewise.
        rephrases: likewise.
        facts: likewise.
        author: likewise.
        reason: likewise.
        created: time at which it was proposed, ISO 8601 in UTC.
        wrong: the wrong answer that was reported; None where none was.
        replaces: ids of the edits that it shall supersede.
        publish: whether it is published as soon as it is trained, for whom that is allowed.
        done: training steps done so far, of ``total``; both 0 before training.
        total: see ``done``.
        base: version that it was trained upon; None before that.
        similar: id of an active edit that it seems to correct in other words; None where there is none.
        receipt: see :class:`StoredEdit`; empty before training.
        evaluation: what was found before publishing; None where that was not asked yet.
        error: why it failed.
        edit: id of the edit that it has become.
        decided_by: who published or rejected it.
        decided_at: when.
        decision: the words that went with that.
    """

    id: int
    state: DraftState
    prompt: str
    target: str
    rephrases: tuple[str, ...]
    facts: Facts
    author: str
    reason: str
    created: str
    wrong: str | None = None
    replaces: tuple[int, ...] = ()
    publish: bool = False
    done: int = 0
    total: int = 0
    base: int | None = None
    similar: int | None = None
    receipt: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    error: str | None = None
    edit: int | None = None
    decided_by: str | None = None
    decided_at: str | None = None
    decision: str | None = None


@dataclass(frozen=True)
class Version:
    """One change of a store: what it came to by a transaction.

    Attributes:
        number: from 1, without a gap.
        operation: publish, edit, supersede, remove, undo, rollback, switch, describe, import, merge or compact.
        at: time, ISO 8601 in UTC.
        by: who did it, and why.
        added: ids of edits that were published.
        removed: ids of edits that went to sleep.
        restored: ids of edits that woke again.
        undoes: for an undo the number of the version that it took back.
        target: for a rollback the number of the version that it went back to.
        described: for each edit or set whose facts changed, what they were and are.
        tags: names that were given to this version.
    """

    number: int
    operation: str
    at: str
    by: By
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    restored: tuple[int, ...] = ()
    undoes: int | None = None
    target: int | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What makes one version another.

    Attributes:
        before: number of the one.
        after: number of the other.
        added: edits that are active in the other alone.
        removed: edits that are active in the one alone.
    """

    before: int
    after: int
    added: tuple[StoredEdit, ...]
    removed: tuple[StoredEdit, ...]


@dataclass(frozen=True)
class EditSet:
    """A named group of edits.

    Attributes:
        name: of the set.
        on: whether its published edits can answer.
        edits: how many published edits it has.
    """

    name: str
    on: bool
    edits: int


@dataclass(frozen=True)
class Clash:
    """Two edits that cannot both be active: a wording in common, and other targets.

    Attributes:
        ours: the one that is there, or of two drafts the first.
        theirs: the one that shall come.
        wording: a text that they share.
    """

    ours: StoredEdit | Draft
    theirs: StoredEdit | Draft
    wording: str


@dataclass(frozen=True)
class About:
    """What a store is.

    Attributes:
        id: unlike that of any other store.
        address: where it is, without a password.
        version: the last one.
        active: how many edits can answer.
        edits: how many were ever published.
        drafts: how many drafts wait for a decision, by state.
        model: where its model is from; None where that is not known.
        revision: commit of the model; None where that is not known.
        settings: of its codebook, by name.
        schema: name of the last migration.
    """

    id: str
    address: str
    version: int
    active: int
    edits: int
    drafts: Mapping[str, int]
    model: str | None
    revision: str | None
    settings: Mapping[str, Any]
    schema: str


@dataclass(frozen=True)
class Query:
    """Which edits are looked for; all that is given must hold.

    Attributes:
        text: words that prompt, target, a rephrase or the subject contain, whatever their case.
        state: see :data:`EditState`; None for both.
        tag: one of their tags.
        set: the name of their set.
        author: who proposed them.
        subject: exactly this.
    """

    text: str | None = None
    state: EditState | None = None
    tag: str | None = None
    set: str | None = None
    author: str | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list.

    Attributes:
        items: those of this part, in order.
        next: what asks for the part behind it; None where there is none.
    """

    items: tuple[Item, ...]
    next: int | None


@dataclass(frozen=True)
class Key:
    """A key of the service, without its secret.

    Attributes:
        id: number of the key.
        name: who holds it; what the audit log and edits call the actor.
        scopes: what may be done with it.
        created: time, ISO 8601 in UTC.
        expires: time from which it is not taken any more; None for never.
        revoked: time at which it was revoked; None where it was not.
        used: time at which it was last used, to the minute; None for never.
    """

    id: int
    name: str
    scopes: tuple[Scope, ...]
    created: str
    expires: str | None = None
    revoked: str | None = None
    used: str | None = None


@dataclass(frozen=True)
class Event:
    """A line of the audit log.

    Attributes:
        id: number, in order.
        at: time, ISO 8601 in UTC.
        by: who did it, and why.
        action: what was done, as in "edit.publish".
        object: what it was done to, as in "edit 12".
        version: of the store that it made; None where it made none.
        detail: further words of it, by name.
    """

    id: int
    at: str
    by: By
    action: str
    object: str
    version: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
