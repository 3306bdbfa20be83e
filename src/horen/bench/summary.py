"""Scores of a checkpoint, made of its rows alone.

One number stands for one record in every sample: what is asked of a record several times is averaged first. The
headline scores are reliability (its edit prompts), generalization (rephrases), both by exact match of free answers or,
for paragraphs, by ROUGE-L, and locality (negatives answered with the very tokens of the untouched model).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from horen.bench.asking import PROMPT, REPHRASE, Row
from horen.bench.metrics.overall import overall
from horen.bench.metrics.routing import NegativeRoute, PositiveRoute, routing
from horen.bench.metrics.statistics import Estimate, estimate
from horen.bench.records import NEGATIVES, PORTABILITY

_AGES = (10, 100, 1_000, 10_000, 100_000)
_SEED = 0  # of the bootstrap: the same rows give the same intervals


def summarise(rows: Sequence[Row], count: int, *, unstructured: bool) -> dict[str, Any]:
    """Return all scores of a checkpoint, as JSON takes them.

    Args:
        rows: of one checkpoint of one seed.
        count: edits made so far, from which their ages are counted.
        unstructured: whether targets are paragraphs.

    Returns:
        ``headline`` (reliability, generalization, locality: estimates; overall: their mean), ``kinds`` (each kind of
        question with all its scores), ``ages`` (headline scores by how many edits ago the edit was made), ``routing``
        (for methods that route).
    """
    main = "rouge_l" if unstructured else "exact"
    negatives = [row for row in rows if row.kind in NEGATIVES]
    headline = {
        "reliability": _by_record(_of(rows, PROMPT), main),
        "generalization": _by_record(_of(rows, REPHRASE), main),
        "locality": _by_record(negatives, "identical"),
    }
    found: dict[str, Any] = {"records": len({row.position for row in rows})}
    found["headline"] = {name: asdict(value) for name, value in headline.items()}
    found["headline"]["overall"] = overall(*(value.mean for value in headline.values()))
    found["kinds"] = {
        kind: _columns(_of(rows, kind)) for kind in (PROMPT, REPHRASE, *NEGATIVES, *PORTABILITY) if _of(rows, kind)
    }
    found["ages"] = _ages(rows, count, main)
    if any(row.fired is not None for row in rows):
        found["routing"] = {kind: _routing(_of(rows, kind), negatives) for kind in (PROMPT, REPHRASE)}
    return found


def per_record(rows: Iterable[Row], score: str) -> dict[int, float]:
    """Return a score's mean over each record's rows, by the record's number; records without it are left out."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if score in row.scores:
            values.setdefault(row.number, []).append(row.scores[score])
    return {number: sum(some) / len(some) for number, some in values.items()}


def _of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row.kind == kind]


def _by_record(rows: Sequence[Row], score: str) -> Estimate:
    return estimate(list(per_record(rows, score).values()), seed=_SEED)


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row.scores)
    columns: dict[str, Any] = {"asked": len(rows)}
    columns |= {name: asdict(_by_record(rows, name)) for name in names}
    columns["cut"] = sum(row.cut for row in rows) / len(rows)
    if rows[0].fired is not None:
        columns["fired"] = sum(bool(row.fired) for row in rows) / len(rows)
    return columns


def _ages(rows: Sequence[Row], count: int, main: str) -> list[dict[str, Any]]:
    found = []
    newest = 0
    for oldest in (*(age for age in _AGES if age < count), count):
        some = [row for row in rows if newest < count - row.position <= oldest]
        scores = {
            "reliability": _mean(_of(some, PROMPT), lambda row: row.scores[main]),
            "generalization": _mean(_of(some, REPHRASE), lambda row: row.scores[main]),
        }
        found.append({"newest": newest + 1, "oldest": oldest, "records": len({r.position for r in some})} | scores)
        newest = oldest
    return found


def _mean(rows: Sequence[Row], value: Callable[[Row], float]) -> float | None:
    return sum(map(value, rows)) / len(rows) if rows else None


def _routing(positives: Sequence[Row], negatives: Sequence[Row]) -> dict[str, Any]:
    right = [PositiveRoute(_score(row), row.routed, bool(row.fired)) for row in positives]
    return routing(right, [NegativeRoute(_score(row), row.kind, bool(row.fired)) for row in negatives]).to_dict()


def _score(row: Row) -> float:
    return float("-inf") if row.score is None else row.score
