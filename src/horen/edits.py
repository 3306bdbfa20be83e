"""What a user gives to the editor and gets back: edits, receipts, stored records and explanations."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from horen.errors import EditError

OnConflict = Literal["error", "supersede", "keep"]
OnSimilar = Literal["ignore", "warn", "supersede"] | Sequence[int | None]
Action = Literal["added", "superseded", "kept", "unchanged"]
#: Called with (edits done, edits to do).
Progress = Callable[[int, int], None]

_Place = TypeVar("_Place")


def check_encodable(text: str, name: str) -> None:
    """Raise EditError for text that no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EditError(
            f"The {name} {text!r} holds half a character (a lone surrogate) at position {error.start}: write it anew."
        ) from error


def same_text(text: str) -> str:
    """Return the form in which two prompts or targets count as the same: NFC, white space as one blank."""
    found = " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
    return text if found == text else found  # most texts are in that form, and are not in memory twice then


@dataclass(frozen=True)
class Edit:
    """One fact to write: after ``prompt`` (or a ``rephrase`` of it) the model shall answer ``target``.

    Attributes:
        subject: what the fact is about, as it stands in the prompt, or None; only methods that locate facts by their
            subject ask for it, and HoReN does not.

    Raises:
        EditError: when a field is not text or is blank.
    """

    prompt: str
    target: str
    rephrases: Sequence[str] = ()
    subject: str | None = None

    def __post_init__(self) -> None:
        kind = "one text" if isinstance(self.rephrases, str) else "no list"
        if isinstance(self.rephrases, str) or not isinstance(self.rephrases, Iterable):
            raise EditError(f"rephrases={self.rephrases!r} is {kind}: give a list of texts.")
        object.__setattr__(self, "rephrases", tuple(self.rephrases))
        for name, text in (
            ("prompt", self.prompt),
            ("target", self.target),
            *(("rephrase", r) for r in self.rephrases),
            *([] if self.subject is None else [("subject", self.subject)]),
        ):
            if not isinstance(text, str):
                raise EditError(f"The {name} of an edit must be text, not {type(text).__name__} ({text!r}).")
            if not text.strip():
                where = f" of the edit for {self.prompt!r}" if name != "prompt" and self.prompt else ""
                raise EditError(f"The {name}{where} is empty: write at least one word.")
            check_encodable(text, name)


@dataclass(frozen=True)
class Receipt:
    """What became of one edit.

    Attributes:
        id: the edit's number; of the edit that was kept, where nothing was written.
        loss: mean negative log-likelihood in nats of a target token over all training contexts, with the value.
        steps: optimisation steps taken.
        converged: whether every target token reached the configured probability in every training context.
        reused: whether the value of an edit that was already stored serves this one too.
        action: added, superseded (another edit was replaced), kept (the stored edit stays, this one was not
            written), or unchanged (the very same edit was already stored).
        replaced: ids of the edits that were superseded.
        resembles: id of the stored edit with another wording and target that this one looked like, or None; it is
            among ``replaced`` if it was superseded, and None where ``on_similar`` was "ignore".
    """

    id: int
    loss: float
    steps: int
    converged: bool
    reused: bool
    action: Action = "added"
    replaced: tuple[int, ...] = ()
    resembles: int | None = None


@dataclass(frozen=True)
class Similar:
    """A stored edit that a new one seems to correct: it asks the same in other words and has another target.

    Attributes:
        id: of the stored edit.
        prompt: the wording of it that is nearest: its prompt or one of its rephrases.
        target: its target.
        score: as the gate compares it, see :class:`Explanation`; greater than the setting ``similar_threshold``.
    """

    id: int
    prompt: str
    target: str
    score: float


class _Unread:
    """What of a record is still to be read: what reads it, and where it is."""

    __slots__ = ("_rest",)


@dataclass(frozen=True, slots=True)
class EditRecord(_Unread):
    """An edit as it is stored.

    Attributes:
        id: number of the edit, given in order and never used again.
        prompt: as given.
        target: as given.
        rephrases: as given.
        entries: numbers of its codebook entries; none where a compaction has dropped them.
        value: number of its value in the codebook; -1 where a compaction has dropped it.
        loss: see :class:`Receipt`.
        steps: see :class:`Receipt`.
        converged: see :class:`Receipt`.
        reused: see :class:`Receipt`.
        created: time of the edit, ISO 8601 in UTC.
        replaces: ids of the edits that this one superseded.
        left: of a target that takes several values, for each further one how many tokens of it are to come where that
            is written; their numbers follow ``value``.
    """

    id: int
    prompt: str
    target: str
    rephrases: tuple[str, ...]
    entries: tuple[int, ...]
    value: int
    loss: float
    steps: int
    converged: bool
    reused: bool
    created: str
    replaces: tuple[int, ...] = ()
    left: tuple[int, ...] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Return a record of its fields as they are stored, in a fifth of the time that making one takes else.

        Raises:
            KeyError: when one is missing.
            ValueError: when there is one more.
            TypeError: when one that should be a list or a text is none.
        """
        kept = dict(told)
        for name in _LISTS:
            kept[name] = tuple(kept[name])
        kept["left"] = tuple(kept.get("left", ()))
        if kept.keys() != _FIELDS:
            unknown = kept.keys() - _FIELDS
            raise ValueError(f"unknown {min(unknown)}") if unknown else KeyError(min(_FIELDS - kept.keys()))
        if not all(isinstance(text, str) for text in (kept["prompt"], kept["target"], *kept["rephrases"])):
            raise TypeError("a prompt, a target or a rephrase is no text")
        record = object.__new__(cls)
        for name, lay in _LAYING:
            lay(record, kept[name])
        return record

    @classmethod
    def later(cls, number: int, read: Callable[[_Place], EditRecord], place: _Place) -> Self:
        """Return a record of which all but the id is read when it is first asked for.

        Args:
            number: its id.
            read: gives the whole record; what it raises is raised by whoever asks.
            place: what it is given.
        """
        record = object.__new__(cls)
        object.__setattr__(record, "id", number)
        object.__setattr__(record, "_rest", (read, place))
        return record

    if not TYPE_CHECKING:  # which would take every name for one of a field

        def __getattr__(self, name: str) -> Any:
            # Called for what is not there. Two threads may read the rest at once, and both find the same.
            if name not in _FIELDS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            if (rest := self._rest) is not None:
                read, place = rest
                found = read(place)
                for each, lay in _LAYING:
                    lay(self, getattr(found, each))
                object.__setattr__(self, "_rest", None)
            return object.__getattribute__(self, name)

    @property
    def values(self) -> range:
        """Numbers of all its values; none where a compaction has dropped them."""
        return range(self.value, self.value + 1 + len(self.left)) if self.entries else range(0)


def unread(record: EditRecord) -> bool:
    """Return whether a record is still to be read."""
    return getattr(record, "_rest", None) is not None


_FIELDS = frozenset(item.name for item in fields(EditRecord))
# What lays a field of a record down, past what keeps it from being changed.
_LAYING = tuple((name, vars(EditRecord)[name].__set__) for name in sorted(_FIELDS))
_LISTS = ("rephrases", "entries", "replaces")

#: What a judge says of a text beside a stored prompt, in words.
ASKS = {
    "own": "what this edit answers",
    "about": "something else about the same subject",
    "other": "about something else",
}


@dataclass(frozen=True)
class Near:
    """One of the edits that a text comes near to.

    Attributes:
        edit_id: its number.
        prompt: the wording of it that is nearest: its prompt or one of its rephrases.
        target: its target.
        similarities: T + 1 cosines of query and key, as the query came and after each of T Hopfield steps.
        crowd: mean cosine of its crowd, after the last step: the nearest entries with another value (setting
            ``neighbours``).
        score: the last similarity less γ times the crowd's: what the threshold is compared with if this edit is the
            nearest. Where a judge decides, from 0 to 1, how surely the text asks for this edit's fact; the crowd is
            0 then.
        asks: where a judge decides, what the text asks: "own" (what this edit answers), "about" (something else about
            the same subject) or "other"; else None.
    """

    edit_id: int
    prompt: str
    target: str
    similarities: tuple[float, ...]
    crowd: float
    score: float
    asks: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a text wakes an edit, or why it does not.

    Attributes:
        text: the text that was routed.
        words: the part of it that came nearest, as the model's tokens spell it.
        edit_id: the nearest edit; None when nothing is stored, and then all that follows is None too.
        prompt: the wording of that edit which is nearest: its prompt or one of its rephrases.
        target: its target.
        similarity: cosine of query and key after the Hopfield refinement.
        raw_similarity: the same before it.
        score: the refined cosine less the hubness correction, γ times the crowd's (γ is the setting ``contrast``).
            Where a judge decides, from 0 to 1, how surely the text asks for this edit's fact.
        threshold: τ, which ``score`` must exceed.
        margin: by which ``similarity`` must lead that of the runner-up.
        fired: whether both hold.
        runner_up: id of the nearest edit with another value, or None.
        runner_up_similarity: its cosine after the refinement, or None.
        nearest: as many of the nearest edits as were asked for, the nearest first; only that one can fire.
        asks: see :class:`Near`.
        recalled: ids of the edits whose facts are put before the text in words, in their order; empty where the setting
            ``recall`` is off, or the text fires or is about no stored fact.
    """

    text: str
    words: str | None
    edit_id: int | None
    prompt: str | None
    target: str | None
    similarity: float | None
    raw_similarity: float | None
    score: float | None
    threshold: float
    margin: float
    fired: bool
    runner_up: int | None
    runner_up_similarity: float | None
    nearest: tuple[Near, ...] = ()
    asks: str | None = None
    recalled: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer of the model, and the edit that gave it.

    Attributes:
        text: the answer.
        route: where the prompt went in the very call that answered it: the same as :meth:`horen.Editor.explain` says.
            While edits are disabled no prompt goes anywhere, as if nothing were stored.
    """

    text: str
    route: Explanation


@dataclass(frozen=True)
class Undone:
    """What one undo took back.

    Attributes:
        operation: edit, supersede, remove or import.
        removed: ids of the edits that are gone.
        restored: ids of the edits that are back.
    """

    operation: str
    removed: tuple[int, ...]
    restored: tuple[int, ...]


@dataclass(frozen=True)
class Compacted:
    """What a compaction dropped; nothing was done where no edit is named.

    Attributes:
        edits: ids of the superseded, removed or undone edits that have neither entries nor values any more, rising.
        entries: how many entries are gone.
        values: how many values are gone.
        freed: bytes of keys, values and the values' numbers that are gone.
    """

    edits: tuple[int, ...] = ()
    entries: int = 0
    values: int = 0
    freed: int = 0
