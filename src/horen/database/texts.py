"""Texts of edits as a store keeps them: comparable and searchable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from horen.database.checks import check_name
from horen.database.records import Facts
from horen.edits import same_text

#: The longest source, which may be a link.
SOURCE = 4000


def now() -> str:
    """Return the present time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def mark_of(wording: str) -> int:
    """Return a number of 63 bits that two wordings have in common if they count as the same, and else hardly ever."""
    digest = hashlib.blake2b(same_text(wording).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def marks_of(texts: Iterable[str]) -> list[int]:
    """Return the marks of wordings, each once, in their order."""
    return list(dict.fromkeys(map(mark_of, texts)))


def words_of(prompt: str, target: str, rephrases: Sequence[str], subject: str | None) -> str:
    """Return what a search for words reads."""
    return "\n".join((prompt, target, *rephrases, *([subject] if subject else []))).casefold()


def checked(facts: Facts) -> Facts:
    """Return facts with tags sorted, each once.

    Raises:
        EditError: for a text that cannot be stored, or an empty tag.
    """
    for name, text in (("subject", facts.subject), ("name of a set", facts.set)):
        if text is not None:
            check_name(text, name)
    if facts.source is not None:
        check_name(facts.source, "source", SOURCE)
    for tag in facts.tags:
        check_name(tag, "tag")
    return Facts(facts.subject, facts.source, tuple(sorted(set(facts.tags))), facts.set)
