"""Texts of edits as a store keeps them: checked, comparable, searchable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from horen.database.records import Facts
from horen.edits import check_encodable, same_text
from horen.errors import EditError

_LONGEST = 200


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


def check_text(text: str, name: str, longest: int | None = None) -> str:
    """Return a text that every database can hold.

    Raises:
        EditError: for one that holds half a character or a null character, or is too long.
    """
    check_encodable(text, name)
    if "\0" in text:
        raise EditError(f"The {name} {text[:_LONGEST]!r} holds a null character: leave it out.")
    if longest is not None and len(text) > longest:
        raise EditError(f"The {name} has {len(text)} characters, and {longest} are the most: shorten it.")
    return text


def checked(facts: Facts) -> Facts:
    """Return facts with tags sorted, each once.

    Raises:
        EditError: for a text that cannot be stored, or an empty tag.
    """
    for name, text in (("subject", facts.subject), ("source", facts.source), ("name of a set", facts.set)):
        if text is not None:
            check_name(text, name)
    for tag in facts.tags:
        check_name(tag, "tag")
    return Facts(facts.subject, facts.source, tuple(sorted(set(facts.tags))), facts.set)


def check_name(text: str, name: str) -> str:
    """Return a short text that is not blank.

    Raises:
        EditError: for any other.
    """
    if not isinstance(text, str) or not text.strip():
        raise EditError(f"The {name} is empty: write at least one word, or leave it out.")
    return check_text(text, name, 2000)
