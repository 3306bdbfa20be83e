"""What a report says, section by section; how it looks is up to the page and to Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from horen.bench.asking import Row
from horen.bench.report import figures, tables
from horen.bench.report.failures import failures, shortened
from horen.bench.report.tables import Table
from horen.bench.results import Result


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        title: its heading.
        text: what a reader has to know for what follows; may be empty.
        table: or None.
        drawings: what each shows, and its SVG.
    """

    title: str
    text: str = ""
    table: Table | None = None
    drawings: tuple[tuple[str, str], ...] = ()


INTRODUCTION = (
    "Answers are generated freely, greedily, and end where the model ends them. Reliability and generalization are "
    "exact matches after normalisation (ROUGE-L for long targets), locality is the share of other prompts answered "
    "with the very tokens of the untouched model, overall their mean. Brackets are 95 % bootstrap intervals over "
    "records."
)


def sections(results: Sequence[Result]) -> list[Section]:
    """Return everything that is known of runs.

    Raises:
        ModelError: when matplotlib, which draws the curves, is not installed.
    """
    asked = [(result, result.rows()) for result in results]
    found = [
        Section(
            "Scores by number of edits",
            table=tables.headline(results, every=True),
            drawings=tuple(figures.curves(results)),
        ),
        Section(
            "Scores by age",
            "After the last checkpoint, by how many edits ago an edit was made.",
            tables.ages(results),
            tuple(figures.by_age(results)),
        ),
        Section(
            "Every kind of question",
            "After the last checkpoint. Legacy agreement (free generation of the target's length) and teacher forcing "
            "are for comparison with published tables.",
            tables.kinds(results),
        ),
    ]
    if any("routing" in result.last.scores for result in results):
        found += [
            Section(
                "Routing",
                "Rephrases against each kind of negative, for methods that route: nearest edit right, woken at the "
                "method's threshold, negatives that fire there, area under the curve, and rephrases found where "
                "0.1, 1 and 5 % of the negatives fire.",
                tables.routing(results),
                tuple(figures.roc(results)),
            ),
            Section(
                "How near prompts come to an edit",
                "Score of the nearest edit after the last checkpoint; the line is the method's threshold.",
                drawings=tuple(_histograms(asked)),
            ),
        ]
    found += [
        Section(
            "Costs",
            "After the last checkpoint; prefill and decoding are measured in turn with the untouched model.",
            tables.costs(results),
            tuple(figures.costs(results)),
        ),
        Section("Where it fails", "Examples after the last checkpoint, spread over the stream.", _failures(asked)),
        Section("What was run", table=tables.provenance(results)),
    ]
    return [section for section in found if section.drawings or (section.table and section.table.rows)]


def _histograms(asked: Sequence[tuple[Result, list[Row]]]) -> list[tuple[str, str]]:
    drawn = [(result.name, figures.histograms(rows)) for result, rows in asked]
    return [(f"{name}: scores of the nearest edit", drawing) for name, drawing in drawn if drawing is not None]


def _failures(asked: Sequence[tuple[Result, list[Row]]]) -> Table:
    rows = []
    for result, answered in asked:
        for failure in failures(answered, unstructured=bool(result.manifest["dataset"]["unstructured"])):
            row = failure.row
            nearest = "–"
            if row.nearest is not None and row.score is not None:
                nearest = f"{shortened(row.nearest)} ({tables.number(row.score)}{', fired' if row.fired else ''})"
            texts = (row.text, " / ".join(row.answers), row.answer)
            cells = (f"{failure.way} ({failure.count:,})", *map(shortened, texts), nearest)
            rows.append((result.name, *cells))
    headers = ("run", "what (how often)", "asked", "expected", "answered", "nearest edit")
    return Table(headers, tuple(rows), words=len(headers))
