"""benchmarks/storage.py routes as editors with either storage of keys do, and says which way a decision changed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from horen import Edit, Explanation
from horen.bench.records import NEAR, ONE_HOP, Negative, Question, Record
from support.editors import EDITED, OTHER, PROMPTS, quick_editor
from support.encoders import text_settings

ROOT = Path(__file__).parents[3]
PAIRS = [(EDITED, "Rome"), (OTHER, "Berlin")]
UNROUTED = Explanation("A text", None, None, None, None, None, None, None, 0.5, 0.0, False, None, None)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("storage")


def went(edit: int | None, score: float, recalled: tuple[int, ...] = ()) -> Explanation:
    """A text that comes nearest to edit 7 or, where it fires, to that edit."""
    return replace(UNROUTED, edit_id=edit or 7, score=score, fired=edit is not None, recalled=recalled)


@pytest.mark.parametrize("settings", [{}, text_settings()], ids=["activations", "text"])
def test_texts_go_where_an_editor_with_each_storage_sends_them(script: ModuleType, settings: dict[str, Any]):
    both = script.Both(quick_editor(edits=[], key_storage="float32", **settings), PAIRS)
    editors = [
        quick_editor(edits=[Edit(*pair) for pair in PAIRS], key_storage=name, **settings)
        for name in ("float32", "int8")
    ]
    texts = list(PROMPTS)
    pairs = both.routed(texts, [editors[0]._session.contexts.plain(text) for text in texts])
    for place, editor in enumerate(editors):
        for pair, expected in zip(pairs, editor.explain(texts, nearest=0), strict=True):
            found = pair[place]
            assert (found.text, found.edit_id, found.fired) == (expected.text, expected.edit_id, expected.fired)
            # Keys that are made of several prompts at once are a little others.
            told = [found.similarity, found.score, found.runner_up_similarity]
            assert told == pytest.approx([expected.similarity, expected.score, expected.runner_up_similarity], abs=1e-6)
    assert any(abs(one.similarity - two.similarity) > 1e-5 for one, two in pairs)


def test_ways_in_which_a_decision_changes_are_counted_apart(script: ModuleType):
    pairs = [
        (went(1, 0.9), went(1, 0.8)),
        (went(1, 0.6), went(None, 0.4)),
        (went(None, 0.4), went(1, 0.6)),
        (went(1, 0.6), went(2, 0.6)),
        (went(2, 0.6), went(None, 0.4, (1,))),
        (went(2, 0.6), went(3, 0.6)),
    ]
    ways = ("lost right", "gained right", "new false fire", "removed false fire", "another edit fires")
    told = script.compared(pairs, [1] * 6, asks=True)
    assert [told[way] for way in ways] == [2, 1, 1, 1, 5]
    assert told["own edit fired"] == [3, 2]
    assert told["recalls other facts"] == 1
    assert told["greatest difference of a score"] == pytest.approx(0.2)
    # What asks for no stored fact is right only where nothing fires.
    told = script.compared(pairs, [1] * 6, asks=False)
    assert [told[way] for way in ways] == [0, 0, 1, 2, 5]
    assert script.summed([{"stored": 3, "one": told, "two": told}])["removed false fire"] == 4


def test_all_that_is_asked_of_records_is_asked_but_prompts_of_others(script: ModuleType):
    records = [
        Record(1, "Old?", "x", ("Older?",), (Negative("Near?", NEAR), Negative("New?", NEAR))),
        Record(2, "New?", "y", questions=(Question("Hop?", ("z",), ONE_HOP),)),
        Record(3, "Old?", "w", ("Aged?",)),
    ]
    made = script.of_records(records)
    assert made.stored == [("Old?", "w"), ("New?", "y")]
    assert [(asked.text, asked.kind, asked.own) for asked in made.asked] == [
        ("Old?", "prompts", 0),
        ("New?", "prompts", 1),
        ("Aged?", "rephrases", 0),
        ("Hop?", ONE_HOP, 1),
    ]


@pytest.mark.parametrize("name", ["everyday", "natural", "traps", "demo", "people", "events", "conversations"])
def test_every_set_belongs_to_what_it_stores(script: ModuleType, name: str):
    made = script.named(name)
    assert made.asked
    assert all(0 <= asked.own < len(made.stored) for asked in made.asked)
