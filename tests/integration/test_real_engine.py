"""The embedded engine on real weights: many at once, edited and not, as the wrapped model answers each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import ASKED_ANOTHER_WAY, FACTS, PARAGRAPH, UNRELATED
from horen import Editor
from horen.serve.engines.embedded import Embedded
from horen.serve.engines.interface import Piece, Sampling, Wanted
from support.embedded import GREEDY, ask, asked, edit_of, greedy, said, serving, stock, text

pytestmark = pytest.mark.real

MOST = 8
SAMPLING = replace(GREEDY, max_tokens=MOST)
TEXTS = [fact.prompt for fact in FACTS] + UNRELATED[:4] + ASKED_ANOTHER_WAY
LONG = f"{PARAGRAPH} {PARAGRAPH}\n\n{FACTS[0].prompt}"


def rows_of(editor: Editor) -> list[list[int]]:
    """Questions in chat where the model has one, some of them plain, one behind a long text."""
    contexts = editor._session.contexts
    plain = [contexts.plain(text) for text in (*TEXTS[:3], LONG)]
    if not contexts.has_chat:
        return [*plain, *map(contexts.plain, TEXTS[3:])]
    return [*plain, *(contexts.chat([{"role": "user", "content": text}]) for text in TEXTS)]


@pytest.fixture(scope="module")
def codebook(edited: Editor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "codebook"
    edited.save(folder)
    return folder


@pytest.fixture(scope="module")
def rows(edited: Editor) -> list[list[int]]:
    return rows_of(edited)


@pytest.fixture(scope="module")
def answers(edited: Editor, rows: list[list[int]]) -> list[list[str]]:
    """What the wrapped model answers, without edits at every fourth row."""
    return [(greedy if number % 4 else stock)(edited, row, MOST) for number, row in enumerate(rows, 1)]


async def arriving(engine: Embedded, rows: list[list[int]], wanted: list[Wanted]) -> list[list[Piece]]:
    delays = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)).tolist()

    async def late(number: int) -> list[Piece]:
        await asyncio.sleep(delays[number])
        return await ask(engine, rows[number], SAMPLING, wanted[number], name=str(number))

    return await asyncio.gather(*map(late, range(len(rows))))


@pytest.mark.parametrize("room", [{}, {"batch": 24}, {"tokens": 400, "page": 16}], ids=["all", "in parts", "put back"])
def test_answers_are_those_of_the_wrapped_model(
    edited: Editor, codebook: Path, room: dict[str, int], rows: list[list[int]], answers: list[list[str]]
):
    wanted = [Wanted(on=bool(number % 4)) for number in range(1, len(rows) + 1)]
    with serving(edited, codebook, **room) as engine:
        found = asyncio.run(arriving(engine, rows, wanted))
        assert engine._batch.free() == pytest.approx(1.0)
    assert [said(pieces) for pieces in found] == answers
    assert [edit_of(pieces) for pieces in found[:3]] == [1, 2, 3]
    assert text(found[0]).strip() == FACTS[0].target


def test_edits_one_by_one(edited: Editor, codebook: Path):
    row = edited._session.contexts.plain(FACTS[0].prompt)
    with serving(edited, codebook) as engine:
        for wanted, edit in (
            (Wanted(), 1),
            (Wanted(only=frozenset({1, 2})), 1),
            (Wanted(without=frozenset({1})), None),
            (Wanted(version=0), None),
        ):
            pieces = asked(engine, row, SAMPLING, wanted)
            assert edit_of(pieces) == edit
            assert (text(pieces).strip() == FACTS[0].target) is (edit == 1)


def test_a_seed_a_stop_text_and_several_answers(edited: Editor, codebook: Path):
    row = edited._session.contexts.plain("Write a short poem about the sea.\n")
    drawn = Sampling(max_tokens=MOST, temperature=1.0, top_p=0.95, seed=11, n=2)
    with serving(edited, codebook) as engine:
        once, again = asked(engine, row, drawn), asked(engine, row, drawn)
        assert [text(once, index) for index in (0, 1)] == [text(again, index) for index in (0, 1)]
        assert text(once, 0) != text(once, 1)
        whole = text(once, 0)
        stop = whole[len(whole) // 2 :][:3]
        pieces = asked(engine, row, replace(drawn, n=1, stop=(stop,)))
        assert (text(pieces), pieces[-1].finish) == (whole[: whole.index(stop)], "stop")
