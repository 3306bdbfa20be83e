"""What one request may ask of the embedded engine: how tokens are chosen, when an answer ends, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import torch

from horen import ConfigError, Edit, Editor
from horen.serve.engines.continuous.words import spelled
from horen.serve.engines.embedded import Embedded
from horen.serve.engines.interface import Piece, Request, Sampling
from support.editors import EDITED, chat_ids, ids_of, quick_editor
from support.embedded import GREEDY, MOST, ask, asked, edit_of, greedy_ids, said, serving, text

DRAWN = Sampling(max_tokens=MOST, temperature=1.0, seed=3, logprobs=0)
ROW = ids_of(EDITED)
#: Wakes nothing, and is long enough to be interrupted.
OTHER = ids_of("Who wrote Hamlet?")


@pytest.fixture(scope="module")
def editor() -> Editor:
    return quick_editor(edits=[Edit(EDITED, "Rome")])


@pytest.fixture(scope="module")
def unedited(editor: Editor) -> list[int]:
    """Token ids of the answer that no edit gives."""
    return greedy_ids(editor, OTHER)


@pytest.fixture(scope="module")
def plain(editor: Editor, unedited: list[int]) -> list[str]:
    return [spelled(editor.tokenizer, token) for token in unedited]


@pytest.fixture(scope="module")
def answer(editor: Editor) -> list[int]:
    """Token ids of the edited answer."""
    return greedy_ids(editor, ROW)


@pytest.fixture(scope="module")
def logits(editor: Editor, answer: list[int]) -> torch.Tensor:
    """[tokens, V] log-probabilities of the edited answer's tokens, of a plain forward pass."""
    with torch.no_grad(), editor.prompt_end(len(ROW)):
        found = editor.model(torch.tensor([[*ROW, *answer]])).logits[0, len(ROW) - 1 : -1]
    return found.log_softmax(-1)


@pytest.fixture(scope="module")
def engine(
    editor: Editor, plain: list[str], answer: list[int], logits: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("saved") / "codebook"
    editor.save(folder)
    assert len(plain) == len(answer) == len(logits) == MOST
    with serving(editor, folder) as engine:
        yield engine


def beside(engine: Embedded, rows: list[list[int]], sampling: list[Sampling]) -> list[list[Piece]]:
    """Answers to requests that are all there at once."""

    async def all_of_them() -> list[list[Piece]]:
        requests = zip(rows, sampling, strict=True)
        return await asyncio.gather(*(ask(engine, row, one, name=str(n)) for n, (row, one) in enumerate(requests)))

    return asyncio.run(all_of_them())


def test_what_is_told_of_tokens(engine: Embedded, editor: Editor, answer: list[int], logits: torch.Tensor):
    tokens = [token for piece in asked(engine, ROW, replace(GREEDY, logprobs=4)) for token in piece.tokens]
    values, ids = logits.topk(4, dim=-1)
    assert [token.text for token in tokens] == [spelled(editor.tokenizer, one) for one in answer]
    for token, own, likely, which in zip(tokens, answer, values.tolist(), ids.tolist(), strict=True):
        assert [name for name, _ in token.likeliest] == [spelled(editor.tokenizer, one) for one in which]
        assert [number for _, number in token.likeliest] == pytest.approx(likely, abs=1e-4)
        assert token.logprob == pytest.approx(likely[which.index(own)], abs=1e-4)


def test_what_is_told_is_of_the_model_not_of_how_tokens_are_drawn(engine: Embedded):
    """Before temperature and top_p."""
    greedy = [token.logprob for piece in asked(engine, ROW) for token in piece.tokens]
    cold = replace(DRAWN, temperature=1e-6, top_p=0.01)
    assert [token.logprob for piece in asked(engine, ROW, cold) for token in piece.tokens] == pytest.approx(greedy)


def test_no_log_probabilities_unless_they_are_wanted(engine: Embedded, plain: list[str]):
    pieces = asked(engine, OTHER, replace(GREEDY, logprobs=None))
    assert not any(piece.tokens for piece in pieces)
    assert all(piece.text or piece.finish for piece in pieces)
    assert pieces[-1].count == len(plain)
    assert text(pieces) == text(asked(engine, OTHER))
    assert asked(engine, OTHER, replace(GREEDY, logprobs=0))[0].tokens[0].likeliest == ()


def test_a_seed_gives_the_same_whatever_runs_beside_it(engine: Embedded):
    alone = said(asked(engine, OTHER, DRAWN))
    others = [replace(DRAWN, seed=number, top_p=0.5 + number / 40) for number in range(10, 16)]
    busy = beside(engine, [OTHER, *(chat_ids(str(n)) for n in range(6))], [DRAWN, *others])
    assert said(busy[0]) == alone
    assert said(asked(engine, OTHER, replace(DRAWN, seed=4))) != alone
    assert said(asked(engine, OTHER, replace(DRAWN, seed=-7))) == said(asked(engine, OTHER, replace(DRAWN, seed=-7)))
    unseeded = replace(DRAWN, seed=None)
    assert said(asked(engine, OTHER, unseeded)) != said(asked(engine, OTHER, unseeded))


def test_several_answers(engine: Embedded):
    pieces = asked(engine, OTHER, replace(DRAWN, n=3))
    answers = [said(pieces, index) for index in range(3)]
    assert len({tuple(one) for one in answers}) == 3
    assert answers[0] == said(asked(engine, OTHER, DRAWN))
    again = asked(engine, OTHER, replace(DRAWN, n=3))
    assert [said(again, index) for index in range(3)] == answers


def test_several_answers_of_which_nothing_is_left_to_chance(engine: Embedded, answer: list[int]):
    pieces = asked(engine, ROW, replace(GREEDY, n=3))
    assert len({tuple(said(pieces, index)) for index in range(3)}) == 1
    assert edit_of(pieces) == 1
    assert len(said(pieces)) == len(answer)


def test_an_answer_of_so_many_tokens(engine: Embedded, plain: list[str]):
    for most in (1, 5):
        pieces = asked(engine, OTHER, replace(GREEDY, max_tokens=most))
        assert (said(pieces), pieces[-1].finish) == (plain[:most], "length")


def test_as_many_tokens_as_there_is_room_for(engine: Embedded):
    """None is refused for being too long by one."""
    row = OTHER * ((engine.context - 6) // len(OTHER))
    pieces = asked(engine, row, replace(GREEDY, max_tokens=None))
    assert pieces[-1].count == engine.context - len(row) or pieces[-1].finish == "stop"
    asked(engine, row, replace(GREEDY, max_tokens=engine.context - len(row)))
    with pytest.raises(ConfigError, match=f"max_tokens={engine.context - len(row) + 1} and a prompt of {len(row)}"):
        asked(engine, row, replace(GREEDY, max_tokens=engine.context - len(row) + 1))


def test_a_token_that_ends_answers(
    engine: Embedded, unedited: list[int], plain: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "_ends", (unedited[3],))
    pieces = asked(engine, OTHER)
    first = unedited.index(unedited[3])
    assert (said(pieces), pieces[-1].finish) == (plain[: first + 1], "stop")


def test_a_text_that_ends_answers(engine: Embedded, plain: list[str]):
    whole = text(asked(engine, OTHER))
    assert len(whole) > 8
    for begin, end in ((4, 7), (0, 2), (5, 6), (len(whole) - 2, len(whole))):
        stop = whole[begin:end]
        pieces = asked(engine, OTHER, replace(GREEDY, stop=("nowhere", stop)))
        assert text(pieces) == whole[: whole.index(stop)]
        assert pieces[-1].finish == "stop"
        assert pieces[-1].count <= len(plain)
    never = asked(engine, OTHER, replace(GREEDY, stop=(whole + "!",)))
    assert (text(never), never[-1].finish) == (whole, "length")


def test_drawn_tokens_are_as_likely_as_the_model_says(engine: Embedded):
    """First tokens of many answers, with the half that is likeliest alone."""
    some = replace(DRAWN, max_tokens=1, n=100, top_p=0.5, temperature=0.8)
    drawn = [
        token.text
        for seed in (0, 1000)
        for piece in asked(engine, OTHER, replace(some, seed=seed))
        for token in piece.tokens
    ]
    told = asked(engine, OTHER, replace(GREEDY, max_tokens=1, logprobs=20))[0].tokens[0].likeliest
    # The likeliest twenty have all but little of what there is; the nucleus is among them.
    weights = torch.tensor([number for _, number in told]).div(0.8).softmax(-1).tolist()
    names = [name for name, _ in told]
    assert set(drawn) <= set(names)
    likeliest = names[0]
    share = drawn.count(likeliest) / len(drawn)
    assert share >= weights[0] - 0.12


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0}, "max_tokens=0"),
    ({"max_tokens": 10**6}, "max_tokens=1000000"),
    ({"temperature": -0.5}, "temperature=-0.5"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"top_p": 0.0}, "top_p=0.0"),
    ({"top_p": 1.5}, "top_p=1.5"),
    ({"seed": 1.5}, "seed=1.5"),
    ({"stop": ("",)}, "stop="),
    ({"logprobs": -1}, "logprobs=-1"),
    ({"logprobs": 21}, "logprobs=21"),
    ({"n": 0}, "n=0"),
    ({"n": 129}, "n=129"),
]


@pytest.mark.parametrize(("given", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_what_cannot_be_asked_is_refused(engine: Embedded, given: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=f"^{told}"):
        asked(engine, OTHER, replace(GREEDY, **given))


@pytest.mark.parametrize("row", [[], [1, -1], [1, 10**6], [1] * 5000], ids=["none", "negative", "unknown", "long"])
def test_a_prompt_that_cannot_be_asked_is_refused(engine: Embedded, row: list[int]):
    with pytest.raises(ConfigError, match=r"^The prompt"):
        asked(engine, row)


async def until(engine: Embedded, free: float) -> None:
    """Wait until so much of an engine's room is free."""
    for _ in range(200):
        if engine._batch.free() >= free:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(engine._batch.free())


def test_who_goes_away_ends_the_request(engine: Embedded):
    async def leave() -> None:
        async with aclosing(engine.ask(Request("left", tuple(OTHER), replace(DRAWN, max_tokens=400, n=4)))) as pieces:
            async for _ in pieces:
                assert engine._batch.free() < 1
                assert (await engine.health()).running
                break
        await until(engine, 1.0)
        health = await engine.health()
        assert (health.running, health.waiting) == (0, 0)

    asyncio.run(leave())
    assert engine._answers == {}


def test_a_task_that_is_cancelled_ends_the_request(engine: Embedded):
    async def cancelled() -> None:
        task = asyncio.create_task(ask(engine, OTHER, replace(DRAWN, max_tokens=400)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(engine, 1.0)

    asyncio.run(cancelled())


def test_a_loop_that_is_gone_harms_nobody(engine: Embedded, plain: list[str]):
    """It may end in the middle of an answer."""
    loop = asyncio.new_event_loop()
    pieces = engine.ask(Request("gone", tuple(OTHER), replace(DRAWN, max_tokens=400)))
    loop.run_until_complete(anext(pieces))
    loop.close()
    assert said(asked(engine, OTHER)) == plain
    for name in list(engine._answers):
        engine._batch.cancel(name)
        del engine._answers[name]
