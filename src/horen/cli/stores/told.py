"""What a user says of edits that go into a store, beside their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from horen.cli.stores.opening import by_whom
from horen.editfiles.records import FileRecord

if TYPE_CHECKING:
    from horen.database import By, Facts, Proposal


@dataclass(frozen=True)
class Told:
    """What a user says of all lines of a file, for a store.

    Attributes:
        actor: who writes them; None for the user of this machine.
        reason: why.
        tags: that each gets, beside its own.
        set: the edit set that they go into; None for none.
        source: where those are from that do not say so.
        subject: what those are about that do not say so.
    """

    actor: str | None = None
    reason: str | None = None
    tags: tuple[str, ...] = ()
    set: str | None = None
    source: str | None = None
    subject: str | None = None

    @classmethod
    def of(
        cls,
        actor: str | None,
        reason: str | None,
        tags: str | None = None,
        edit_set: str | None = None,
        source: str | None = None,
        subject: str | None = None,
    ) -> Told:
        """Return what options say; tags stand in one text, with commas between."""
        several = tuple(dict.fromkeys(tag.strip() for tag in (tags or "").split(",") if tag.strip()))
        return cls(actor, reason, several, edit_set, source, subject)

    @property
    def options(self) -> dict[str, object]:
        """What was given, by option."""
        facts: dict[str, object] = {
            "--tags": self.tags,
            "--edit-set": self.set,
            "--source": self.source,
            "--subject": self.subject,
        }
        return facts | {"--by": self.actor, "--reason": self.reason}

    @property
    def by(self) -> By:
        """Who does it, and why."""
        return by_whom(self.actor, self.reason)

    def facts(self, record: FileRecord) -> Facts:
        """Return what is said of a line."""
        from horen.database import Facts  # noqa: PLC0415

        tags = tuple(sorted({*record.tags, *self.tags}))
        return Facts(record.subject or self.subject, record.source or self.source, tags, self.set)

    def proposal(self, record: FileRecord) -> Proposal:
        """Return a line as it is proposed.

        Raises:
            EditError: when a text cannot be stored.
        """
        from horen.database import Proposal  # noqa: PLC0415

        return Proposal(record.prompt, record.target, record.rephrases, self.facts(record))
