"""Scores of a checkpoint from rows, worked by hand."""

from __future__ import annotations

import pytest
from bench_support import row

from horen.bench.summary import per_record, summarise


def test_headline_scores_by_hand():
    rows = [
        row(0, exact=1.0),
        row(1, exact=0.0),
        row(0, "rephrase", exact=1.0),
        row(0, "rephrase", exact=0.0),
        row(1, "rephrase", exact=0.0),
        row(0, "far", identical=1.0, kl=0.0),
        row(0, "near", identical=0.0, kl=0.5),
        row(1, "far", identical=1.0, kl=0.1),
    ]
    found = summarise(rows, 2, unstructured=False)
    headline = found["headline"]
    assert found["records"] == 2
    assert headline["reliability"]["mean"] == 0.5
    assert headline["generalization"]["mean"] == 0.25
    assert headline["locality"]["mean"] == 0.75
    assert headline["overall"] == pytest.approx(0.5)
    assert found["kinds"]["far"]["kl"]["mean"] == pytest.approx(0.05)
    assert found["kinds"]["near"]["asked"] == 1
    assert "routing" not in found


def test_overall_needs_all_three():
    assert summarise([row(0, exact=1.0)], 1, unstructured=False)["headline"]["overall"] is None


def test_long_targets_are_scored_by_their_overlap():
    found = summarise([row(0, exact=0.0, rouge_l=0.6)], 1, unstructured=True)
    assert found["headline"]["reliability"]["mean"] == 0.6


def test_what_is_asked_of_a_record_several_times_counts_once():
    rows = [row(0, "rephrase", f1=1.0), row(0, "rephrase", f1=0.0), row(1, "rephrase", f1=1.0), row(2, "rephrase")]
    assert per_record(rows, "f1") == {1: 0.5, 2: 1.0}


def test_scores_by_age():
    rows = [row(position, exact=float(position >= 95)) for position in range(100)]
    ages = summarise(rows, 100, unstructured=False)["ages"]
    assert [(age["newest"], age["oldest"], age["records"]) for age in ages] == [(1, 10, 10), (11, 100, 90)]
    assert [age["reliability"] for age in ages] == [0.5, 0.0]
    assert ages[0]["generalization"] is None


def test_routing_by_kind_of_negative():
    rows = [
        row(0, "rephrase", fired=True, exact=1.0, routed=1.0),
        row(1, "rephrase", fired=True, exact=0.0, routed=0.0),
        row(0, "far", fired=False, identical=1.0, kl=0.0),
        row(1, "near", fired=True, identical=0.0, kl=1.0),
    ]
    found = summarise(rows, 2, unstructured=False)["routing"]["rephrase"]
    assert found["top_1"] == 0.5
    assert found["fire_rate"] == 1.0
    assert found["kinds"]["far"]["false_fire_rate"] == 0.0
    assert found["kinds"]["near"]["false_fire_rate"] == 1.0
    assert found["kinds"]["far"]["area"] == 0.5
