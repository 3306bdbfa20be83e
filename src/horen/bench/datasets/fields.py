"""Making records of the objects of a file; knows no format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from horen.bench.records import Negative, Question, Record, Rejected
from horen.editfiles.objects import Fields
from horen.editfiles.textfiles import BadRecordError, Item
from horen.edits import same_text

_Made = TypeVar("_Made")


def made(
    items: Iterable[Item], make: Callable[[int, Fields], _Made], rejected: list[Rejected], where: str = ""
) -> Iterator[_Made]:
    """Yield what ``make`` gives for the objects of a file, one by one; add what cannot be used to ``rejected``.

    The reasons there begin with ``where``.
    """
    for number, raw in items:
        try:
            if isinstance(raw, BadRecordError):
                raise raw
            result = make(number, Fields(raw))
        except BadRecordError as error:
            rejected.append(Rejected(number, f"{where}{error}"))
            continue
        yield result


def record(
    number: int,
    prompt: str,
    target: str,
    *,
    rephrases: Iterable[str] = (),
    negatives: Iterable[Negative] = (),
    questions: Iterable[Question] = (),
    subject: str | None = None,
) -> Record:
    """Return a record: nothing twice, no rephrase that is the prompt, no negative whose answer is to change."""
    own = same_text(prompt)
    reworded: dict[str, str] = {}
    for text in rephrases:
        reworded.setdefault(same_text(text), text)
    reworded.pop(own, None)
    asked = tuple(dict.fromkeys(questions))
    changing = {own, *reworded, *(same_text(question.text) for question in asked)}
    kept: dict[str, Negative] = {}
    for negative in negatives:
        if (key := same_text(negative.text)) not in changing:
            kept.setdefault(key, negative)
    return Record(number, prompt, target, tuple(reworded.values()), tuple(kept.values()), asked, subject)


def negatives(texts: Iterable[str], kind: str) -> list[Negative]:
    """Return one negative of a kind for each text."""
    return [Negative(text, kind) for text in texts]


def question(text: str | None, answers: Sequence[str], kind: str) -> list[Question]:
    """Return one question, or none where the text or every answer is missing."""
    return [Question(text, tuple(answers), kind)] if text and answers else []
