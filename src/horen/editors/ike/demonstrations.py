"""Facts that show how a fact in the context is to be used. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import resources
from io import BytesIO
from pathlib import Path

from horen.editfiles.textfiles import BadRecordError, filled_text, json_lines, json_name, unreadable
from horen.errors import DataError

_SHIPPED = "demonstrations.jsonl"
# For each run of eight, from the nearest on: one copies, three update and four retain, as published.
_KINDS = ("update", "retain", "copy", "retain", "update", "retain", "update", "retain")


@dataclass(frozen=True)
class Demonstration:
    """A fact, another wording of it, and a question that it does not answer.

    Attributes:
        prompt: of the fact.
        target: of the fact.
        rephrase: asks for the fact in other words.
        unrelated_prompt: asks for something else.
        unrelated_answer: the answer to that, which the fact leaves as it is.
    """

    prompt: str
    target: str
    rephrase: str
    unrelated_prompt: str
    unrelated_answer: str

    @property
    def fact(self) -> str:
        """The text by which it is found."""
        return f"{self.prompt} {self.target}"

    def shown(self, place: int) -> tuple[str, str]:
        """Return the question that it shows and the answer to it.

        Args:
            place: 0 where it is the nearest to the fact that is used, 1 where it is the next, and so on.
        """
        kind = _KINDS[place % len(_KINDS)]
        if kind == "retain":
            return self.unrelated_prompt, self.unrelated_answer
        return (self.prompt if kind == "copy" else self.rephrase), self.target


def load_demonstrations(place: str) -> list[Demonstration]:
    """Return those of a file, one JSON object a line, or the package's own where ``place`` is empty.

    Raises:
        DataError: when the file cannot be read, has none, or has a line that is not one.
    """
    if not place:
        return list(_parsed(resources.files("horen.data").joinpath(_SHIPPED).read_bytes(), _SHIPPED))
    try:
        found = list(_parsed(Path(place).read_bytes(), place))
    except OSError as error:
        raise unreadable(Path(place), error) from error
    if not found:
        raise DataError(f"{place} holds no demonstration: write one JSON object a line, or set count=0.")
    return found


def _parsed(data: bytes, name: str) -> Iterator[Demonstration]:
    wanted = [item.name for item in fields(Demonstration)]
    for line, value in json_lines(BytesIO(data)):
        try:
            if isinstance(value, BadRecordError):
                raise value
            if not isinstance(value, dict):
                raise BadRecordError(f"it is {json_name(value)} where an object is expected")
            yield Demonstration(**{field: filled_text(value.get(field), field) for field in wanted})
        except BadRecordError as error:
            raise DataError(f"{name}, line {line}: {error}; give {', '.join(wanted)}.") from error
