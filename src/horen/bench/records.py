"""What every data set is read into: edits, and the questions that show what an edit did."""

from __future__ import annotations

from dataclasses import dataclass

FAR, NEAR, SAME_SUBJECT = "far", "near", "same_subject"
NEGATIVES = (FAR, NEAR, SAME_SUBJECT)
ALIAS, INVERSE, PERSONAS = "alias", "inverse", "personas"
ONE_HOP, MULTI_HOP, SUB_QUESTION, REASONING = "one_hop", "multi_hop", "sub_question", "reasoning"
PORTABILITY = (ALIAS, INVERSE, PERSONAS, ONE_HOP, MULTI_HOP, SUB_QUESTION, REASONING)


@dataclass(frozen=True)
class Negative:
    """A prompt whose answer an edit must leave alone.

    Attributes:
        text: what is asked.
        kind: ``far`` for unrelated prompts, ``near`` for the edit's relation with another subject, ``same_subject``
            for another relation of the edit's subject.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class Question:
    """A prompt whose answer follows from an edit.

    Attributes:
        text: what is asked.
        answers: every answer that counts as right, at least one.
        kind: one of ``PORTABILITY``.
    """

    text: str
    answers: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Record:
    """One edit of a benchmark and everything that is asked about it.

    Attributes:
        number: its place in the file, from 1: the line, or the item of a list.
        prompt: the edit prompt.
        target: the new answer.
        rephrases: the same question in other words; never given to an editor.
        negatives: what must be answered as before.
        questions: what follows from the edit (portability).
        subject: what the fact is about, where the file says it.
    """

    number: int
    prompt: str
    target: str
    rephrases: tuple[str, ...] = ()
    negatives: tuple[Negative, ...] = ()
    questions: tuple[Question, ...] = ()
    subject: str | None = None


@dataclass(frozen=True)
class Rejected:
    """A record of a file that cannot be used, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class Dataset:
    """What was read of a file.

    Attributes:
        name: of the format.
        path: of the file, or the hub id it came from.
        sha256: of the file's bytes, in hexadecimal.
        records: those that can be used, in the file's order.
        rejected: those that cannot.
        unstructured: whether targets are paragraphs, scored by overlap, rather than short answers.
    """

    name: str
    path: str
    sha256: str
    records: tuple[Record, ...]
    rejected: tuple[Rejected, ...]
    unstructured: bool = False
