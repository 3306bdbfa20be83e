"""What a check-up of a codebook finds: edits that would misroute now, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["shadowed", "crowded", "unreached", "unconverged"]


@dataclass(frozen=True)
class Reading:
    """A stored wording of an edit that does not come to that edit.

    Attributes:
        text: the prompt or rephrase.
        chat: whether it was read as a user message through the chat template, or as plain text.
        score: what the threshold was compared with, of the entry that came out nearest.
        fired: whether that entry fired: where not, the score is too low or the runner-up too near (setting
            ``margin``).
        nearest: id of the edit that came out nearest.
    """

    text: str
    chat: bool
    score: float
    fired: bool
    nearest: int


@dataclass(frozen=True)
class Finding:
    """Something about one edit that does not work as it was meant to.

    Attributes:
        edit_id: its number.
        prompt: its prompt.
        target: its target.
        kind: shadowed (an edit with another target comes out nearest to its own prompt), crowded (its own prompt comes
            to it, but other edits are too near for it to fire), unreached (its prompt works, but a rephrase of it, or
            one of its wordings in chat, does not), or unconverged (its training ended before the target was likely
            enough).
        other: id of the edit in its way: the one that is nearest instead or, of what does not fire, the nearest with
            another value; None where there is none.
        readings: the wordings that do not come to it.
        advice: what to do.
    """

    edit_id: int
    prompt: str
    target: str
    kind: Kind
    other: int | None
    readings: tuple[Reading, ...]
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """The outcome of a check-up.

    Attributes:
        edits: number of active edits.
        readings: number of readings that were routed: every wording in plain text and, unless that was left out or the
            model has no chat template, in chat.
        threshold: τ.
        findings: what was found, by edit.
        recall: share of 1,000 queries at cosines of 0.6 to 0.95 to stored keys whose nearest entry the index finds;
            None where no index is used.
        asleep: share of the stored entries that are asleep, of superseded, removed and undone edits, from 0 to 1;
            :meth:`horen.Editor.compact` drops them.
    """

    edits: int
    readings: int
    threshold: float
    findings: tuple[Finding, ...]
    recall: float | None = None
    asleep: float = 0.0

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings
