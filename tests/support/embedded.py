"""Asking an embedded engine, and what the wrapped model of an editor answers in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import torch

from horen import Editor
from horen.model.contexts import ends_of
from horen.serve.engines.continuous.room import Room
from horen.serve.engines.continuous.words import spelled
from horen.serve.engines.embedded import Embedded
from horen.serve.engines.interface import Piece, Request, Sampling, Wanted

#: As many tokens as answers have here.
MOST = 12
ANY = Wanted()
GREEDY = Sampling(max_tokens=MOST, temperature=0.0, logprobs=0)


def greedy(editor: Editor, row: Sequence[int], most: int = MOST) -> list[str]:
    """What the tokens say that the wrapped model answers with."""
    return [spelled(editor.tokenizer, token) for token in greedy_ids(editor, row, most)]


def greedy_ids(editor: Editor, row: Sequence[int], most: int = MOST) -> list[int]:
    """The tokens that the wrapped model answers with, with one that ends the answer."""
    ends = list(ends_of(editor.model, editor.tokenizer).all)
    with torch.no_grad():
        found = editor.model.generate(
            torch.tensor([list(row)]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=ends or None,
            pad_token_id=0,
        )[0, len(row) :].tolist()
    stop = next((number + 1 for number, token in enumerate(found) if token in ends), len(found))
    return found[:stop]


def stock(editor: Editor, row: Sequence[int], most: int = MOST) -> list[str]:
    """The same without edits."""
    with editor.disabled():
        return greedy(editor, row, most)


@contextmanager
def serving(editor: Editor, codebook: Path | None, **room: Any) -> Iterator[Embedded]:
    """An engine on an editor's model, which is wrapped again behind it."""
    model = editor.unwrap()
    engine = Embedded(model, editor.tokenizer, codebook, room=Room(**({"tokens": 2048, "batch": 64, "page": 8} | room)))
    try:
        yield engine
    finally:
        asyncio.run(engine.close())
        editor._session.wrap()


async def ask(
    engine: Embedded, row: Sequence[int], sampling: Sampling = GREEDY, wanted: Wanted = ANY, *, name: str = "one"
) -> list[Piece]:
    """Every piece of an answer."""
    async with aclosing(engine.ask(Request(name, tuple(row), sampling, wanted))) as pieces:
        return [piece async for piece in pieces]


def asked(engine: Embedded, row: Sequence[int], sampling: Sampling = GREEDY, wanted: Wanted = ANY) -> list[Piece]:
    """Every piece of an answer, in an event loop of its own."""
    return asyncio.run(ask(engine, row, sampling, wanted))


def said(pieces: Sequence[Piece], index: int = 0) -> list[str]:
    """What the tokens of an answer say, once it is whole."""
    own = [piece for piece in pieces if piece.index == index]
    tokens = [token.text for piece in own for token in piece.tokens]
    assert [piece.finish is None for piece in own] == [True] * (len(own) - 1) + [False]
    assert own[-1].count == len(tokens)
    return tokens


def text(pieces: Sequence[Piece], index: int = 0) -> str:
    """The text of an answer."""
    return "".join(piece.text for piece in pieces if piece.index == index)


def edit_of(pieces: Sequence[Piece]) -> int | None:
    """The edit that an answer is of, which every piece tells."""
    fired = {piece.fired for piece in pieces}
    assert len(fired) == 1
    one = fired.pop()
    return None if one is None else one.edit
