"""The user's own rephrases to calibrate with, from a file of JSON Lines."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from horen.calibration.material import NEIGHBOUR, SAME_SUBJECT, SEED, UNRELATED, Fact, Material, Trial, split
from horen.data import PromptBank
from horen.editfiles.textfiles import BadRecordError, filled_text, json_lines, json_name, refuse_utf16, unreadable
from horen.errors import DataError

# Names of the fields that hold negatives, as a file has them.
_NEGATIVES = {"unrelated": UNRELATED, "neighbours": NEIGHBOUR, "same_subject": SAME_SUBJECT}
_FEWEST = 50
_BACKGROUND = 1024


@dataclass(frozen=True)
class _Line:
    fact: Fact
    negatives: tuple[tuple[str, str], ...]


def read_trial(path: Path, bank: PromptBank) -> Trial:
    """Read all of such a file as one trial, for a gate that nothing is fitted or chosen for; see :func:`read_pairs`.

    Raises:
        DataError: when the file cannot be read, a line is unusable, or there are too few lines.
    """
    return _trial(_enough(path), bank.unrelated(_BACKGROUND))


def read_pairs(path: Path, bank: PromptBank) -> Material:
    """Read the material of a file whose lines have ``prompt`` and ``rephrases``, and may have negatives.

    Negatives are lists of texts under ``unrelated``, ``neighbours`` (the same relation of another subject) and
    ``same_subject`` (another relation of the same subject). Lines are split at random, but always alike, into those
    that are fitted on, chosen by and certified on; the bundled bank adds unrelated prompts to each.

    Raises:
        DataError: when the file cannot be read, a line is unusable, or there are too few lines.
    """
    lines = _enough(path)
    rng = random.Random(SEED)  # noqa: S311 - an order, not a secret
    rng.shuffle(lines)
    to_fit, to_choose, to_certify = split(lines)
    far = bank.unrelated(3 * _BACKGROUND)
    return Material(
        groups=tuple((line.fact.prompt, *line.fact.rephrases) for line in to_fit),
        background=(*far[:_BACKGROUND], *(line.fact.prompt for line in to_fit)),
        choose=_trial(to_choose, far[_BACKGROUND : 2 * _BACKGROUND]),
        certify=_trial(to_certify, far[2 * _BACKGROUND :]),
    )


def _trial(lines: Sequence[_Line], far: list[str]) -> Trial:
    edited = {text for line in lines for text in (line.fact.prompt, *line.fact.rephrases)}
    negatives = [*(negative for line in lines for negative in line.negatives), *((UNRELATED, text) for text in far)]
    kept = dict.fromkeys(negative for negative in negatives if negative[1] not in edited)
    return Trial(tuple(line.fact for line in lines), tuple(kept))


def _enough(path: Path) -> list[_Line]:
    lines = list(_lines(path))
    if len(lines) < _FEWEST:
        raise DataError(f"{path} holds {len(lines)} facts with rephrases: give at least {_FEWEST}, better thousands.")
    return lines


def _lines(path: Path) -> Iterator[_Line]:
    seen: set[str] = set()
    try:
        with path.open("rb") as handle:
            refuse_utf16(path, handle.peek(2))
            for number, value in json_lines(handle):
                try:
                    line = _checked(value)
                except BadRecordError as error:
                    raise DataError(f"{path}, line {number}: {error}; fix the line.") from None
                if line.fact.prompt not in seen:
                    seen.add(line.fact.prompt)
                    yield line
    except OSError as error:
        raise unreadable(path, error) from error


def _checked(value: object) -> _Line:
    if isinstance(value, BadRecordError):
        raise value
    if not isinstance(value, Mapping):
        raise BadRecordError(f"it holds {json_name(value)} where an object is expected")
    prompt, rephrases = filled_text(value.get("prompt"), "prompt"), _texts(value, "rephrases")
    if not rephrases:
        raise BadRecordError("it has no rephrases, of which at least one is needed")
    negatives = ((kind, text) for name, kind in _NEGATIVES.items() for text in _texts(value, name))
    return _Line(Fact(prompt, rephrases), tuple(negatives))


def _texts(value: Mapping[object, object], name: str) -> tuple[str, ...]:
    given = value.get(name, [])
    if not isinstance(given, list):
        raise BadRecordError(f"{name} is {json_name(given)} where a list is expected")
    return tuple(filled_text(text, name) for text in given)
