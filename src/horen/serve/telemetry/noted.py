"""What is noted of one request while it is answered, for the one line that the log has of it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Noted:
    """What is known of a request.

    Attributes:
        id: of the request.
        fields: that its line in the log has beside those that every line has.
    """

    id: str
    fields: dict[str, Any] = field(default_factory=dict)


_MOST_ANSWERS = 20
_current: ContextVar[Noted | None] = ContextVar("horen_request", default=None)


def begin(request: str) -> Noted:
    """Begin to note a request; what runs on its behalf notes to the same."""
    noted = Noted(request)
    _current.set(noted)
    return noted


def note_answer(told: dict[str, Any]) -> None:
    """Note an answer to the request that is being answered; nothing where none is."""
    noted = _current.get()
    if noted is not None:
        answers = noted.fields.setdefault("answers", [])
        if len(answers) < _MOST_ANSWERS:
            answers.append(told)


def request_id() -> str | None:
    """Return the id of the request that is being answered."""
    noted = _current.get()
    return None if noted is None else noted.id
