"""Parts of the plugin for vLLM by themselves: what requests carry, what is gathered, versions, a server's answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from horen import ConfigError
from horen.front.wish import ALL, Among, Wish
from horen.front.writing import Gathering
from horen.model.prompts import Prompt
from horen.vllm import serving
from horen.vllm.asked import CARRIED, wish_of, without_words
from horen.vllm.blocks import own_blocks, read_anew
from horen.vllm.inside import Gathered
from horen.vllm.operator import Buffers, Seen, hook, reads, routes, write, write_all
from horen.vllm.process import beamed

SIZE = 6


def gathering(at: int = 9, asked: int | None = None, version: int = 3, among: Among = ALL) -> Gathering:
    return Gathering(Prompt(at, ((2, 8), (5, 8)), asked), version, f"{version} noon", among)


def carrying(carried: dict[str, Any]) -> Any:
    return SimpleNamespace(sampling_params=SimpleNamespace(extra_args={CARRIED: carried}))


@pytest.mark.parametrize("among", [ALL, Among(frozenset({4, 2})), Among(frozenset(), frozenset({3}))])
@pytest.mark.parametrize("asked", [None, 7])
def test_what_is_to_be_gathered_comes_back(asked: int | None, among: Among):
    told = gathering(asked=asked, among=among)
    packed = json.loads(json.dumps(told.packed()))
    assert Gathering.unpacked(packed) == told
    assert (packed["first"], packed["begin"]) == (9 if asked is None else 7, 2)


def test_states_are_known_by_version_and_place():
    digests = [
        gathering().packed()["digest"],
        gathering(at=8).packed()["digest"],
        gathering(version=4).packed()["digest"],
        gathering(among=Among(frozenset({1}))).packed()["digest"],
        gathering(among=Among(without=frozenset({1}))).packed()["digest"],
    ]
    assert len(set(digests)) == 5
    keys = own_blocks(lambda *_: (None, 0))
    found = [keys(carrying(gathering().packed()), start, start + 4, 0)[0] for start in (0, 4, 8)]
    assert found == [None, None, (("horen", digests[0]),)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 3), st.booleans())
def test_what_is_gathered_is_the_same_however_a_prompt_is_cut(lengths: list[int], row: int, again: bool):
    """Also where chunks come once more, as after a request was put back."""
    told = Gathering(Prompt(11, ((2, 9),)), 1, "1")
    gathered, states = Gathered(told, range(12)), [torch.randn(12, SIZE), torch.randn(12, 2)]
    for _ in range(2 if again else 1):
        done = 0
        for most in [*lengths, 12]:
            length = min(most, 12 - done)
            if length and gathered.wants(done, length):
                batch = [torch.full((row + length + 1, part.shape[1]), torch.nan) for part in states]
                for one, part in zip(batch, states, strict=True):
                    one[row : row + length] = part[done : done + length]
                gathered.take(batch, row, done, length)
            done += length
    assert gathered.whole
    assert all(torch.equal(a[0], b[2:9]) for a, b in zip(gathered.states, states, strict=True))


def test_what_was_not_computed_is_missed():
    gathered = Gathered(Gathering(Prompt(11, ((2, 9),)), 1, "1"), range(12))
    assert gathered.wants(4, 8)
    gathered.take([torch.zeros(8, SIZE)], 0, 4, 8)
    assert not gathered.whole
    assert not gathered.wants(9, 3)
    assert not gathered.wants(0, 2)


def test_cached_blocks_are_found_up_to_what_is_read():
    def usual(_self: Any, request: Any) -> int:
        return len(request.block_hashes)

    find, pool = read_anew(usual), SimpleNamespace(block_pool=SimpleNamespace(hash_block_size=4))
    for begin, blocks in ((0, 0), (3, 0), (4, 1), (11, 2), (99, 6)):
        request = carrying({"begin": begin})
        request.block_hashes = list(range(6))
        assert find(pool, request) == blocks
        assert len(request.block_hashes) == 6
    request = carrying({})
    request.block_hashes = list(range(6))
    assert find(pool, request) == 6


class Layer(nn.Module):
    """Hands on hidden states and a residual, or one of them, behind a part whose input is read."""

    def __init__(self, *, pair: bool) -> None:
        super().__init__()
        self.pair, self.part = pair, nn.Linear(SIZE, SIZE)

    def forward(self, states: Tensor) -> Any:
        inner = self.part(states * 2)
        return (inner, states + 1) if self.pair else inner


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_read_in_a_step_may_say_what_is_written_in_it(pair: bool, compiled: bool):
    """The graph is made once and followed by what the buffers hold, and by what routes."""
    layer, buffers = Layer(pair=pair), Buffers(8, SIZE, torch.zeros(0))
    seen = [Seen(8, SIZE, torch.zeros(0)), Seen(8, SIZE, torch.zeros(0))]
    for number, one in enumerate([*seen, buffers]):
        layer.add_module(f"buffers{number}", one)
    reads(layer.part, "input", seen[0], 1)
    reads(layer, "output", seen[1], 1)
    layer.register_forward_hook(hook(buffers, replaces=True, seen=seen))
    found: list[Tensor] = []

    def route() -> None:
        if seen[0].wanted.item():
            found.append(torch.cat([one.states[:5] for one in seen], dim=-1))
            buffers.fill([3], [seen[0].states[3]])

    routes(buffers, route)
    ask = torch.compile(layer, fullgraph=True) if compiled else layer
    with torch.no_grad():
        states = torch.randn(5, SIZE)
        plain = total(ask(states)).clone()
        for one in seen:
            one.wanted.fill_(1)
        routed = total(ask(states))
        torch.testing.assert_close(found[0], torch.cat([states * 2, plain], dim=-1))
        torch.testing.assert_close(routed[3], states[3] * 2)
        torch.testing.assert_close(routed[[0, 1, 2, 4]], plain[[0, 1, 2, 4]])
        for one in seen:
            one.wanted.fill_(0)
        buffers.fill((), ())
        torch.testing.assert_close(total(ask(states)), plain)
    assert len(found) == 1


@given(st.integers(1, 8), st.data())
def test_a_captured_graph_writes_what_asking_for_the_count_does(batch: int, data: st.DataObject):
    """It always writes as many rows, also in a batch that is smaller than the one before."""
    plain, captured = Buffers(8, SIZE, torch.zeros(0)), Buffers(8, SIZE, torch.zeros(0))
    captured.captured = True
    sizes = [8, batch, batch]
    for size in sizes:
        rows = data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=size))
        values = [torch.randn(SIZE) for _ in rows]
        pair, replaces = data.draw(st.booleans()), data.draw(st.booleans())
        states = [[torch.randn(size, SIZE), torch.randn(size, SIZE) if pair else None]]
        states.append([None if part is None else part.clone() for part in states[0]])
        for buffers in (plain, captured):
            buffers.fill(rows, values)
        write(*states[0], plain.rows, plain.values, plain.count, replaces)
        write_all(*states[1], captured.rows, captured.values, captured.count, replaces=replaces)
        assert torch.equal(states[0][0], states[1][0])
        assert not pair or torch.equal(states[0][1], states[1][1])


def total(output: Any) -> Tensor:
    return sum(output) if isinstance(output, tuple) else output


def test_what_a_caller_may_ask_for():
    def wish(**extra: Any) -> Wish:
        return wish_of(SimpleNamespace(extra_args=extra or None))

    assert wish() == wish(horen="on") == wish(horen=1) == wish(other=3) == Wish()
    assert wish(horen="off") == wish(horen=0) == wish(horen=False) == Wish(on=False)
    assert wish(horen_version=0) == Wish(version=0)
    assert wish(horen_only=[3, 1], horen_without=(2,)) == Wish(among=Among(frozenset({1, 3}), frozenset({2})))
    assert wish(horen_only=[]) == Wish(among=Among(frozenset())) != wish(horen_only=None) == Wish()
    assert wish_of(None) == wish_of(SimpleNamespace()) == Wish()
    for extra in (
        {"horen": "of"},
        {"horen": None},
        {"horen_version": -1},
        {"horen_version": "1"},
        {"horen_version": True},
        {"horen_only": 3},
        {"horen_only": "3"},
        {"horen_only": [0]},
        {"horen_only": [True]},
        {"horen_without": ["1"]},
        {"horen_without": [1.5]},
    ):
        with pytest.raises(ConfigError, match=next(iter(extra))):
            wish(**extra)
    words = {"horen": "off", "horen_version": 1, "horen_only": [1], "horen_without": [2], CARRIED: {}}
    assert without_words(words | {"own": 2}) == {"own": 2}


def test_a_beam_says_which_prompt_it_goes_on_from():
    prompt = {"type": "token", "prompt_token_ids": [1, 2]}
    beam = SimpleNamespace(orig_prompt=prompt, tokens=[1, 2, 3])
    found = beamed(lambda self: {"type": "token", "prompt_token_ids": self.tokens})(beam)
    assert found["horen:began"] is prompt
    beam.orig_prompt = {"type": "enc_dec"}
    assert "horen:began" not in beamed(lambda self: dict(self.orig_prompt))(beam)


class TestStreams:
    """Pieces of streamed answers, which are text by the time that anything can be told."""

    def pieces(self, told: list[Any], chunks: list[str], n: int = 1) -> list[str]:
        async def results() -> AsyncIterator[Any]:
            for number, one in enumerate(told):
                yield number, SimpleNamespace(**({} if one == "stock" else {"horen": one}))

        async def usual(_self: Any, _request: Any, result_generator: Any, _name: str) -> AsyncIterator[str]:
            async for _ in result_generator:
                pass
            for chunk in chunks:
                yield chunk

        async def collected() -> list[str]:
            stream = serving.streamed(usual)(None, SimpleNamespace(n=n), results(), "name")
            return [piece async for piece in stream]

        return asyncio.run(collected())

    def test_the_first_piece_of_each_choice_tells(self):
        chunks = [f'data: {{"choices": [{{"index": {index}, "text": "é"}}]}}\n\n' for index in (0, 1, 0, 1)]
        found = self.pieces(
            [{"edit": 4}, None], [*chunks, 'data: {"choices": [], "usage": {}}\n\n', "data: [DONE]\n\n"]
        )
        choices = [json.loads(piece.removeprefix("data: "))["choices"][0] for piece in found[:4]]
        assert [choice.get("horen", "silent") for choice in choices] == [{"edit": 4}, None, "silent", "silent"]
        assert found[2:] == [*chunks[2:], 'data: {"choices": [], "usage": {}}\n\n', "data: [DONE]\n\n"]
        assert "é" in found[0]

    def test_an_engine_without_edits_streams_what_it_streams(self):
        chunks = ['data: {"choices": [{"index":0}]}\n\n', 'data: {"error": {}}\n\n']
        assert self.pieces(["stock"], chunks) == chunks
        assert self.pieces([{"edit": 1}], chunks[1:]) == ['data: {"error": {}}\n\n']
