"""What went wrong at a checkpoint, in examples and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from horen.bench.asking import PROMPT, REPHRASE, Row
from horen.bench.records import FAR, NEAR, PORTABILITY, SAME_SUBJECT

_EACH = 3
_LONGEST = 160


@dataclass(frozen=True)
class Failure:
    """One example of a way to fail.

    Attributes:
        way: in words.
        count: how often it happened.
        row: the example.
    """

    way: str
    count: int
    row: Row


def failures(rows: Sequence[Row], *, unstructured: bool) -> list[Failure]:
    """Return a few examples, spread evenly over the stream, of each way in which answers went wrong."""

    def wrong(row: Row) -> bool:
        # A paragraph is never given word for word; one that shares less than half of it is another.
        return row.scores["rouge_l" if unstructured and "rouge_l" in row.scores else "exact"] < 0.5

    found: list[Failure] = []
    for way, test in _WAYS.items():
        some = [row for row in rows if test(row, wrong)]
        step = max(len(some) / _EACH, 1.0)
        picked = [some[int(i * step)] for i in range(min(_EACH, len(some)))]
        found += [Failure(way, len(some), row) for row in picked]
    return found


def shortened(text: str) -> str:
    """Return a text on one line, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


_Wrong = Callable[[Row], bool]
_WAYS: Mapping[str, Callable[[Row, _Wrong], bool]] = MappingProxyType(
    {
        "the edit prompt is not answered with the target": lambda row, wrong: row.kind == PROMPT and wrong(row),
        "a rephrase woke its own edit, which did not carry over": lambda row, wrong: (
            row.kind == REPHRASE and wrong(row) and bool(row.fired) and row.routed
        ),
        "a rephrase woke another edit": lambda row, wrong: (
            row.kind == REPHRASE and wrong(row) and bool(row.fired) and not row.routed
        ),
        "a rephrase woke no edit": lambda row, wrong: row.kind == REPHRASE and wrong(row) and row.fired is False,
        "a rephrase is not answered with the target": lambda row, wrong: (
            row.kind == REPHRASE and wrong(row) and row.fired is None
        ),
        "an unrelated prompt is answered in another way than before": lambda row, _: _changed(row, FAR),
        "a near miss is answered in another way than before": lambda row, _: _changed(row, NEAR),
        "another question about the subject is answered in another way than before": lambda row, _: _changed(
            row, SAME_SUBJECT
        ),
        "what follows from the edit is not known": lambda row, wrong: row.kind in PORTABILITY and wrong(row),
    }
)


def _changed(row: Row, kind: str) -> bool:
    return row.kind == kind and not row.scores["identical"]
