"""Taking texts out of the objects of a file; knows no format."""

from __future__ import annotations

import math
from collections.abc import Mapping

from horen.editfiles.textfiles import BadRecordError, checked_text, json_name


class Fields:
    """The fields of one object of a file; every method raises BadRecordError for a value of the wrong type.

    A null, and the not-a-number that table tools write for an empty cell, count as no value.
    """

    def __init__(self, raw: object, within: str = "") -> None:
        if not isinstance(raw, Mapping):
            raise BadRecordError(f"{within.rstrip('.') or 'it'} is {json_name(raw)} where an object is expected")
        self._raw: Mapping[str, object] = raw
        self._within = within

    def __contains__(self, name: str) -> bool:
        return self._value(name) is not None

    def text(self, name: str) -> str:
        """Return a text that must be there, without outer blanks."""
        value = self._value(name)
        if value is None:
            raise BadRecordError(f"it has no {self._within}{name}")
        text = _text(value, self._within + name)
        if not text:
            raise BadRecordError(f"{self._within}{name} is empty")
        return text

    def optional(self, name: str) -> str | None:
        """Return a text, or None where it is missing or blank."""
        value = self._value(name)
        return None if value is None else _text(value, self._within + name) or None

    def listed(self, name: str) -> list[str]:
        """Return the texts of a list, or the one text that stands for it; a blank or missing one is an empty text."""
        value = self._value(name)
        if value is None:
            return []
        if not isinstance(value, list):
            return [_text(value, self._within + name, "text or a list of texts is")]
        return [
            "" if _missing(item) else _text(item, f"{self._within}{name} {number}")
            for number, item in enumerate(value, start=1)
        ]

    def texts(self, name: str) -> list[str]:
        """Return what ``listed`` gives, without the empty ones."""
        return [text for text in self.listed(name) if text]

    def answers(self, name: str) -> tuple[str, ...]:
        """Return every text of a text, a list of texts or a list of lists of texts, each once."""
        return _answers(self._value(name), self._within + name)

    def inner(self, name: str) -> Fields:
        """Return the object in a field; one without fields where it is missing."""
        value = self._value(name)
        return Fields({} if value is None else value, f"{self._within}{name}.")

    def items(self, name: str) -> list[object]:
        """Return the items of a list, or the one that stands for it."""
        value = self._value(name)
        given = value if isinstance(value, list) else [value]
        return [item for item in given if not _missing(item)]

    def asked(self, name: str) -> list[tuple[str, tuple[str, ...]]]:
        """Return the prompts of objects with ``prompt`` and ``ground_truth``, each with its answers.

        An object may also hold many prompts as a list, and in ``ground_truth`` as many answers.
        """
        found: list[tuple[str, tuple[str, ...]]] = []
        for item in self.items(name):
            fields = Fields(item, f"{self._within}{name}.")
            prompts = fields.listed("prompt")
            if len(prompts) > 1:
                found += zip(prompts, fields._column("ground_truth", len(prompts)), strict=True)
            else:
                found += [(prompt, fields.answers("ground_truth")) for prompt in prompts]
        return [(prompt, answers) for prompt, answers in found if prompt]

    def _column(self, name: str, count: int) -> list[tuple[str, ...]]:
        value = self._value(name)
        given = [None] * count if value is None else value
        if not isinstance(given, list) or len(given) != count:
            raise BadRecordError(f"{self._within}{name} does not hold one item for each of {count} prompts")
        return [_answers(item, self._within + name) for item in given]

    def _value(self, name: str) -> object:
        value = self._raw.get(name)
        return None if _missing(value) else value


def _answers(value: object, name: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in value if isinstance(value, list) else [value]:
        for text in item if isinstance(item, list) else [item]:
            if not _missing(text):
                found[_text(text, name, "text, a list of texts or a list of such lists is")] = None
    found.pop("", None)
    return tuple(found)


def _text(value: object, name: str, expected: str = "text is") -> str:
    return checked_text(value, name, expected).strip()


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
