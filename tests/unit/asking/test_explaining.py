"""What explanations tell beside the decision itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from horen import Edit, EditError
from horen.asking import plots
from support.editors import EDITED, OTHER, PROMPTS, REPHRASED, quick_editor

HAMLET = "Who wrote Hamlet?"
EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris"), Edit(HAMLET, "Oslo")]


@pytest.mark.parametrize("settings", [{}, {"steps": 3, "alpha": 0.4}, {"contrast": 0.4, "neighbours": 2}, {"steps": 0}])
@pytest.mark.parametrize("chat", [False, True])
def test_the_nearest_edits_tell_how_the_decision_came_about(settings: dict[str, float], chat: bool):
    editor = quick_editor(edits=EDITS, **settings)
    for told in editor.explain(list(PROMPTS), chat=chat):
        assert sorted(near.edit_id for near in told.nearest) == [1, 2, 3]
        first = told.nearest[0]
        assert (first.edit_id, first.prompt, first.target) == (told.edit_id, told.prompt, told.target)
        assert {len(near.similarities) for near in told.nearest} == {editor.config.steps + 1}
        assert first.similarities[0] == pytest.approx(told.raw_similarity, abs=1e-5)
        assert first.similarities[-1] == pytest.approx(told.similarity, abs=1e-5)
        assert first.score == pytest.approx(told.score, abs=1e-5)
        for near in told.nearest:
            expected = near.similarities[-1] - editor.config.contrast * near.crowd
            assert near.score == pytest.approx(expected, abs=1e-5)
        last = [near.similarities[-1] for near in told.nearest]
        assert last == sorted(last, reverse=True)


def test_an_edit_is_told_once_with_its_nearest_wording():
    editor = quick_editor(edits=EDITS)
    for text in (EDITED, REPHRASED):
        nearest = editor.explain(text, nearest=2).nearest
        assert nearest[0].prompt == text
        assert len({near.edit_id for near in nearest}) == len(nearest) == 2


def test_as_many_are_told_as_are_asked_for_and_there():
    editor = quick_editor(edits=EDITS)
    for asked, told in ((0, 0), (1, 1), (9, 3)):
        found = editor.explain(EDITED, nearest=asked)
        assert len(found.nearest) == told
        assert (found.edit_id, found.fired) == (1, True)
    editor.remove([2, 3])
    assert [near.edit_id for near in editor.explain(OTHER).nearest] == [1]
    editor.remove(1)
    assert editor.explain(OTHER).nearest == ()


@pytest.mark.parametrize("nearest", [-1, "5", 1.5, None])
def test_a_number_of_nearest_edits_that_makes_no_sense(nearest: object):
    with pytest.raises(EditError, match="nearest="):
        quick_editor().explain(EDITED, nearest=nearest)


@pytest.mark.parametrize("settings", [{}, {"contrast": 0.9, "threshold": 0.6, "neighbours": 1}, {"threshold": -1.0}])
def test_the_drawn_ring_is_where_the_nearest_edit_exceeds_the_threshold(settings: dict[str, float]):
    editor = quick_editor(edits=EDITS, **settings)
    for told in (*editor.explain(list(PROMPTS)), *editor.explain(list(PROMPTS), chat=True)):
        reach = plots._reach(told, editor.config.contrast)
        angle = math.degrees(math.acos(min(told.nearest[0].similarities[-1], 1.0)))
        assert told.fired == (angle < reach)


def test_a_drawing_is_of_what_is_explained(tmp_path: Path):
    editor = quick_editor(edits=EDITS, steps=3)
    assert editor.plot(OTHER, tmp_path / "why.svg", nearest=2) == editor.explain(OTHER, nearest=2)
    assert (tmp_path / "why.svg").stat().st_size > 1000
    with pytest.raises(EditError, match="nothing to draw"):
        editor.plot(OTHER, tmp_path / "none.svg", nearest=0)
    editor.remove([2, 3])  # a lone key, and a centre that it lies upon
    editor.plot(EDITED, str(tmp_path / "lone.png"))
    assert sorted(place.name for place in tmp_path.iterdir()) == ["lone.png", "why.svg"]
