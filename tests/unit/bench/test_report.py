"""What a report is made of: tables, drawings and examples of failures."""

from __future__ import annotations

from typing import Any

import pytest

from horen.bench.asking import Row
from horen.bench.report.failures import failures, shortened
from horen.bench.report.figures import histograms, threshold_of
from horen.bench.report.markdown import _escaped
from horen.bench.report.tables import interval, number


def row(kind: str, position: int = 0, **more: Any) -> Row:
    given = {"number": position + 1, "text": f"question {position}", "answers": ("Rome",), "answer": "Oslo"}
    return Row(position=position, kind=kind, cut=False, **(given | more))


def asked(kind: str, *, exact: float, position: int = 0, **more: Any) -> Row:
    routed = more.pop("routed", True)
    return row(kind, position, scores={"exact": exact, "routed": float(routed)}, **more)


def ways(rows: list[Row], *, unstructured: bool = False) -> list[tuple[str, int, int]]:
    return [(f.way, f.count, f.row.position) for f in failures(rows, unstructured=unstructured)]


def test_ways_to_fail():
    rows = [
        asked("prompt", exact=0.0),
        asked("prompt", exact=1.0, position=1),
        asked("rephrase", exact=0.0, position=2, fired=True, routed=True),
        asked("rephrase", exact=0.0, position=3, fired=True, routed=False),
        asked("rephrase", exact=0.0, position=4, fired=False),
        asked("rephrase", exact=0.0, position=5),
        asked("rephrase", exact=1.0, position=6, fired=True),
        row("far", 7, scores={"identical": 0.0}),
        row("near", 8, scores={"identical": 0.0}),
        row("same_subject", 9, scores={"identical": 0.0}),
        row("near", 10, scores={"identical": 1.0}),
        asked("one_hop", exact=0.0, position=11),
    ]
    assert ways(rows) == [
        ("the edit prompt is not answered with the target", 1, 0),
        ("a rephrase woke its own edit, which did not carry over", 1, 2),
        ("a rephrase woke another edit", 1, 3),
        ("a rephrase woke no edit", 1, 4),
        ("a rephrase is not answered with the target", 1, 5),
        ("an unrelated prompt is answered in another way than before", 1, 7),
        ("a near miss is answered in another way than before", 1, 8),
        ("another question about the subject is answered in another way than before", 1, 9),
        ("what follows from the edit is not known", 1, 11),
    ]


def test_examples_are_spread_over_the_stream():
    rows = [asked("prompt", exact=0.0, position=position) for position in range(9)]
    assert [position for _, _, position in ways(rows)] == [0, 3, 6]
    assert {count for _, count, _ in ways(rows)} == {9}


def test_a_paragraph_fails_when_it_shares_less_than_half():
    rows = [
        row("prompt", 0, scores={"exact": 0.0, "rouge_l": 0.6}),
        row("prompt", 1, scores={"exact": 0.0, "rouge_l": 0.4}),
        row("sub_question", 2, scores={"exact": 1.0}),
    ]
    assert [position for _, _, position in ways(rows, unstructured=True)] == [1]


def test_long_texts_are_cut():
    assert shortened("one\n two") == "one two"
    assert len(shortened("word " * 100)) == 160
    assert shortened("word " * 100).endswith("…")


def test_the_threshold_lies_between_what_fired_and_what_did_not():
    unfired = [row("far", score=score, fired=False) for score in (0.2, 0.4)]
    rows = [*unfired, row("prompt", score=0.6, fired=True)]
    assert threshold_of(rows) == pytest.approx(0.5)
    assert threshold_of([*rows, row("near", score=0.3, fired=True)]) is None
    assert threshold_of(unfired) is None
    assert threshold_of([row("prompt")]) is None


def test_a_histogram_for_each_kind_and_the_line():
    rows = [
        row("far", score=0.2, fired=False),
        row("same_subject", score=0.2, fired=False),
        row("prompt", score=0.6, fired=True),
    ]
    drawing = histograms(rows)
    assert drawing is not None
    assert drawing.startswith("<svg")
    assert "currentColor" in drawing
    assert "#010203" not in drawing
    assert all(f"<!-- {name} -->" in drawing for name in ("prompt", "far", "same subject"))
    assert histograms([row("prompt")]) is None
    assert histograms(rows[:1]) is not None  # one score alone has no range


def test_numbers():
    assert number(None) == "–"
    assert number(1234.5678, 1) == "1,234.6"
    assert interval({"mean": 0.5, "low": 0.25, "high": 0.75}) == "0.500 [0.250, 0.750]"
    assert interval({"mean": 0.5, "low": None, "high": None}) == "0.500"
    assert interval(0.25) == "0.250"


def test_markdown_is_escaped():
    assert _escaped("a|b *c* <d> [e](f) `g` #h") == r"a\|b \*c\* \<d\> \[e\](f) \`g\` \#h"
