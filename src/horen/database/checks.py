"""What every database can hold: checks of texts and numbers before they are given to one."""

from __future__ import annotations

from horen.edits import check_encodable
from horen.errors import EditError

_SHOWN = 200
# The longest name: PostgreSQL has no more bytes of a text in an index than four times as many characters need.
_LONGEST = 500
_LARGEST = 2**63 - 1


def check_text(text: str, name: str, longest: int | None = None) -> str:
    """Return a text that every database can hold.

    Raises:
        EditError: for one that holds half a character or a null character, or is too long.
    """
    check_encodable(text, name)
    if "\0" in text:
        raise EditError(f"The {name} {text[:_SHOWN]!r} holds a null character: leave it out.")
    if longest is not None and len(text) > longest:
        raise EditError(f"The {name} has {len(text)} characters, and {longest} are the most: shorten it.")
    return text


def check_name(text: str, name: str, longest: int = _LONGEST) -> str:
    """Return a short text that is not blank.

    Raises:
        EditError: for any other.
    """
    if not isinstance(text, str) or not text.strip():
        raise EditError(f"The {name} is empty: write at least one word, or leave it out.")
    return check_text(text, name, longest)


def bounded(number: int) -> int:
    """Return a number that every database can compare; one that is too large for that becomes the largest."""
    return max(-_LARGEST, min(number, _LARGEST))


def plain(text: str) -> str:
    """Return words of a program's own as every database can hold them."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
