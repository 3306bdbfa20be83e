"""The parts of requests: texts, names and numbers with their limits, and what a route is given beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from horen.serve.service import Service

#: The largest number that every database holds.
LARGEST = 2**31 - 1


class Body(BaseModel):
    """The body of a request: nothing in it that is not known, and nothing that must be turned into something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _storable(text: str) -> str:
    """Return a text that every database holds.

    Raises:
        ValueError: for a null character, or half a character.
    """
    if "\0" in text:
        raise ValueError("it has a null character: write it without")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it has half a character (a lone surrogate): write it anew") from error
    return text


def _said(text: str) -> str:
    """Return a text that says something.

    Raises:
        ValueError: where it does not.
    """
    if not text.strip():
        raise ValueError("it is empty: write at least one word")
    return _storable(text)


def _plain(text: str) -> str:
    """Return a name that reads as it is.

    Raises:
        ValueError: for signs that a path cannot have, or that are not seen.
    """
    _said(text)
    if text != text.strip() or not text.isprintable() or "/" in text or "\\" in text or text in {".", ".."}:
        raise ValueError("a name has no slash, no control sign, and no blank at either end")
    return text


Text = Annotated[str, StringConstraints(max_length=16_384), AfterValidator(_said)]
Note = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_storable)]
Name = Annotated[str, StringConstraints(max_length=100), AfterValidator(_plain)]
Word = Annotated[str, StringConstraints(max_length=200), AfterValidator(_said)]
Tags = Annotated[list[Name], Field(max_length=50)]
Rephrases = Annotated[list[Text], Field(max_length=100)]
Number = Annotated[int, Field(ge=1, le=LARGEST)]
Numbers = Annotated[list[Number], Field(min_length=1, max_length=1_000)]

Reason = Annotated[Note, Field(description="Why, in your own words; kept with the change and in the audit log.")]
#: In paths and queries, where all is text.
Id = Annotated[int, Path(ge=1, le=LARGEST, description="Its number.")]
Called = Annotated[Name, Path(description="Its name.")]
Before = Annotated[int | None, Query(ge=1, le=LARGEST, description="What `next` said of the part before this one.")]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many.")]
Why = Annotated[Note, Query(max_length=500, description="Why, in your own words.")]


def moment(text: str) -> str:
    """Return a time as the store takes it: ISO 8601 in UTC.

    Raises:
        ValueError: for what is no time with a time zone, or has gone by.
    """
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError('it is no time: write one in ISO 8601, as "2030-01-31T12:00:00Z"') from None
    if given.tzinfo is None:
        raise ValueError('it has no time zone: write one, as in "2030-01-31T12:00:00Z"')
    if given <= datetime.now(UTC):
        raise ValueError("it has gone by: give a time to come")
    return given.astimezone(UTC).isoformat(timespec="seconds")


def _service(request: Request) -> Service:
    """Return what the application has."""
    return cast("Service", request.app.state.service)


#: What the application has: store, engine, settings and so on.
Here = Annotated[Service, Depends(_service)]
