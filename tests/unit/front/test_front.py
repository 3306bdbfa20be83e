"""The front of a model that is loaded: where prompts go, for several who ask at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from horen import ConfigError, Edit, Editor, MismatchError, StoreError
from horen.front.front import BATCH, Front
from horen.front.wish import Among, Wish
from horen.front.writing import Writing
from support.editors import EDITED, OTHER, PROMPTS, chat_ids, ids_of, quick_editor
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

ROWS = [ids_of(text) for text in PROMPTS] + [chat_ids(text) for text in PROMPTS]


@pytest.fixture
def editor() -> Editor:
    return quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])


@pytest.fixture
def folder(editor: Editor, tmp_path: Path) -> Path:
    editor.save(tmp_path / "codebook")
    return tmp_path / "codebook"


@pytest.fixture
def front(editor: Editor, folder: Path) -> Iterator[Front]:
    front = Front.of(folder, editor.unwrap(), editor.tokenizer)
    yield front
    front.close()


def edits(found: list[Writing | None]) -> list[int | None]:
    return [None if one is None else one.edit for one in found]


def test_prompts_go_where_they_go_in_a_wrapped_model(editor: Editor, folder: Path):
    expected = [answer.fired for answer in editor.explain(list(PROMPTS))]
    front = Front.of(folder, editor.unwrap(), editor.tokenizer)
    assert front.session.model is editor.model
    found = front.route(ROWS)
    assert [one is not None for one in found[: len(PROMPTS)]] == expected
    assert edits(found)[:2] == [1, 2]
    assert (found[0].version, found[0].writes[0].at, found[0].first) == (1, len(ROWS[0]) - 1, len(ROWS[0]) - 1)
    assert edits([front.route([row])[0] for row in ROWS]) == edits(found)


def test_wishes(front: Front):
    for wish, expected in (
        (Wish(on=False), [None, None]),
        (Wish(version=0), [None, None]),
        (Wish(among=Among(only=frozenset({2}))), [None, 2]),
        (Wish(among=Among(without=frozenset({2}))), [1, None]),
        (Wish(version=1, among=Among(frozenset({1, 2}), frozenset({1}))), [None, 2]),
        (Wish(), [1, 2]),
    ):
        assert edits(front.route(ROWS[:2], wish)) == expected, wish
    with pytest.raises(ConfigError, match="no version 5"):
        front.route(ROWS, Wish(version=5))


def test_prompts_are_routed_together_each_as_it_wishes(front: Front):
    asked = [(row, wish) for row in ROWS * 8 for wish in (Wish(), Wish(on=False), Wish(version=5))]
    assert len(asked) > 2 * BATCH
    futures = [front.submit(row, wish) for row, wish in asked]
    front.close()  # what waits is routed first
    assert all(future.done() for future in futures)
    expected = edits(front.route(ROWS * 8))
    assert edits([future.result() for future in futures[::3]]) == expected
    assert edits([future.result() for future in futures[1::3]]) == [None] * len(expected)
    assert all(isinstance(future.exception(), ConfigError) for future in futures[2::3])
    assert edits([front.submit(ROWS[0]).result(timeout=30)]) == [1]  # it begins anew


def test_prompts_wait_for_others_as_long_as_they_may(front: Front, monkeypatch: pytest.MonkeyPatch):
    together: list[int] = []
    route = front.route

    def counted(rows: Sequence[Sequence[int]], wish: Wish = Wish()) -> list[Any]:  # noqa: B008 - immutable
        together.append(len(rows))
        return route(rows, wish)

    monkeypatch.setattr(front, "route", counted)
    assert edits([front.submit(ROWS[0]).result(timeout=30)]) == [1]
    monkeypatch.setattr(front, "patience", lambda: 60.0)
    futures = [front.submit(row) for row in (ROWS * BATCH)[:BATCH]]
    assert edits([future.result(timeout=30) for future in futures[:2]]) == [1, 2]  # so many wait for no more
    late = [front.submit(row) for row in ROWS[:2]]
    front.close()  # and nobody does who closes it
    assert edits([future.result(timeout=0) for future in late]) == [1, 2]
    assert together == [1, BATCH, 2]


def test_the_model_is_read_while_nobody_else_runs_it(front: Front):
    entered: list[bool] = []

    @contextmanager
    def alone() -> Iterator[None]:
        entered.append(True)
        yield
        entered.append(False)

    front.alone = alone
    assert edits(front.route(ROWS[:1])) == [1]
    assert entered == [True, False]
    front.route(ROWS, Wish(on=False))
    assert entered == [True, False]


def test_what_no_engine_serves_is_refused(editor: Editor, folder: Path, tmp_path: Path):
    with pytest.raises(StoreError):
        Front.of(tmp_path / "nowhere", editor.unwrap(), editor.tokenizer)
    with pytest.raises(MismatchError):
        Front.of(folder, tiny_model(seed=1), tiny_tokenizer("chatml"))
