"""The service's two engines of vLLM: one in processes of its own, one a server that is asked over HTTP."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from transformers import AutoTokenizer

from horen import ConfigError, Edit, Editor, ModelError
from horen.serve.engines.interface import Fired, Piece, Request, Sampling, Token, Wanted
from horen.serve.engines.vllm_local import LocalVllm
from horen.serve.engines.vllm_remote import RemoteVllm
from support.vllm_servers import free_port, kill, serving

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
]
OTHER = "Name three colours."
BOTH = ("local", "remote")
_IDS = count()


@dataclass
class Said:
    """One answer, put together."""

    text: str = ""
    count: int = 0
    finish: str | None = None
    fired: Fired | None = None
    tokens: list[Token] = field(default_factory=list)
    pieces: int = 0

    def take(self, piece: Piece) -> None:
        assert self.finish is None
        assert self.pieces == 0 or piece.fired == self.fired
        self.text += piece.text
        self.count, self.finish, self.fired = piece.count, piece.finish, piece.fired
        self.tokens += piece.tokens
        self.pieces += 1


@dataclass
class Engines:
    """Both engines, and the loop that they live in."""

    run: Callable[[Coroutine[Any, Any, Any]], Any]
    tokenizer: Any
    local: LocalVllm
    remote: RemoteVllm
    folders: dict[str, Path]

    def request(self, prompt: str | list[int], wanted: Wanted | None = None, **sampling: Any) -> Request:
        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        given = {"temperature": 0.0, "max_tokens": 8, **sampling}
        return Request(f"r{next(_IDS)}", tuple(ids), Sampling(**given), wanted or Wanted())

    def ask(self, kind: str, prompt: str | list[int], wanted: Wanted | None = None, **sampling: Any) -> list[Said]:
        return self.run(self.asked(kind, self.request(prompt, wanted, **sampling)))

    async def asked(self, kind: str, request: Request) -> list[Said]:
        said = [Said() for _ in range(request.sampling.n)]
        async for piece in getattr(self, kind).ask(request):
            said[piece.index].take(piece)
        assert all(one.finish for one in said)
        return said


@pytest.fixture(scope="module")
def engines(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    editor = Editor.from_pretrained(model)
    for fact in FACTS:
        editor.edit(Edit(*fact))
    editor.save(folder / "remote")
    folders = {"remote": folder / "remote", "local": Path(shutil.copytree(folder / "remote", folder / "local"))}
    with asyncio.Runner() as runner, serving(model, folders["remote"], port, folder / "log"):
        options = {"enforce_eager": True, "dtype": "float32", "max_model_len": 512, "max_num_seqs": 8}
        local = LocalVllm(model, str(folders["local"]), name="small", **options)
        remote = runner.run(RemoteVllm.open(f"http://127.0.0.1:{port}"))
        try:
            yield Engines(runner.run, AutoTokenizer.from_pretrained(model), local, remote, folders)
        finally:
            runner.run(remote.close())
            runner.run(local.close())


@pytest.mark.parametrize("kind", BOTH)
class TestBoth:
    def test_it_is_named_and_ready(self, engines: Engines, kind: str):
        engine = getattr(engines, kind)
        assert (engine.model, engine.context) == ("small", 512)
        engines.ask(kind, FACTS[0][0])
        health = engines.run(engine.health())
        assert (health.ready, health.running, health.waiting, health.version, health.why) == (True, 0, 0, 2, "")

    def test_the_edit_that_answers_is_told(self, engines: Engines, kind: str):
        for number, (prompt, target) in enumerate(FACTS, 1):
            (said,) = engines.ask(kind, prompt)
            assert said.text.strip() == target
            assert (said.fired.edit, said.fired.version, said.finish) == (number, 2, "stop")
            assert said.fired.score > 0.5
        (said,) = engines.ask(kind, OTHER)
        assert (said.fired, said.count, said.finish) == (None, 8, "length")

    def test_a_request_says_which_edits_may_answer(self, engines: Engines, kind: str):
        prompt, target = FACTS[1]
        for wanted in (Wanted(on=False), Wanted(version=1), Wanted(version=0)):
            (said,) = engines.ask(kind, prompt, wanted)
            assert said.fired is None
            assert said.text.strip() != target
        assert engines.ask(kind, prompt, Wanted(version=2))[0].fired.version == 2

    def test_edits_are_named_by_their_ids(self, engines: Engines, kind: str):
        for wanted, edit in (
            (Wanted(only=frozenset({2, 7})), 2),
            (Wanted(only=frozenset({1})), None),
            (Wanted(only=frozenset()), None),
            (Wanted(without=frozenset({1})), 2),
            (Wanted(without=frozenset({2})), None),
            (Wanted(only=frozenset({1, 2}), without=frozenset({2})), None),
        ):
            (said,) = engines.ask(kind, FACTS[1][0], wanted)
            assert (said.fired and said.fired.edit) == edit

    def test_what_is_not_there_is_refused_before_the_first_piece(self, engines: Engines, kind: str):
        with pytest.raises(ConfigError, match="has had 2 operations"):
            engines.ask(kind, FACTS[0][0], Wanted(version=7))
        assert engines.ask(kind, FACTS[0][0])[0].fired

    def test_several_answers_where_nothing_is_left_to_chance_are_one(self, engines: Engines, kind: str):
        alone = engines.ask(kind, OTHER)[0]
        assert [(one.text, one.count) for one in engines.ask(kind, OTHER, n=3)] == [(alone.text, alone.count)] * 3

    def test_a_seed_gives_the_same_again_and_its_answers_differ(self, engines: Engines, kind: str):
        one, two = (engines.ask(kind, OTHER, n=3, seed=5, temperature=1.5) for _ in range(2))
        assert [said.text for said in one] == [said.text for said in two]
        assert len({said.text for said in one}) > 1

    def test_a_stop_text_ends_an_answer_before_it(self, engines: Engines, kind: str):
        (said,) = engines.ask(kind, FACTS[0][0], stop=("nowhere", "Lum"))
        assert (said.text.strip(), said.finish) == ("Port", "stop")

    def test_log_probabilities(self, engines: Engines, kind: str):
        (said,) = engines.ask(kind, OTHER, logprobs=3)
        assert len(said.tokens) == said.count == 8
        assert "".join(token.text for token in said.tokens) == said.text
        for token in said.tokens:
            values = [value for _, value in token.likeliest]
            assert values == sorted(values, reverse=True)
            assert token.likeliest[0] == (token.text, token.logprob)
            assert len(values) == 3
        (bare,) = engines.ask(kind, OTHER, logprobs=0)
        assert [token.logprob for token in bare.tokens] == pytest.approx([t.logprob for t in said.tokens], abs=1e-3)
        assert all(token.likeliest == () for token in bare.tokens)

    def test_an_answer_without_a_limit_has_what_the_context_holds(self, engines: Engines, kind: str):
        ids = (engines.tokenizer(OTHER + " Red, blue, green and yellow.")["input_ids"] * 100)[:500]
        (said,) = engines.ask(kind, ids, max_tokens=None)
        assert said.count <= 12
        assert said.finish == "stop" or said.count == 12

    def test_whoever_stops_iterating_ends_the_request(self, engines: Engines, kind: str):
        engine = getattr(engines, kind)

        async def left() -> int:
            async with aclosing(engine.ask(engines.request(OTHER, max_tokens=400, temperature=1.0))) as pieces:
                await anext(pieces)
                assert (await engine.health()).running == 1
            # A server learns that its client has gone when it next sends something.
            for _ in range(100):
                if (await engine.health()).running == 0:
                    return len(await engines.asked(kind, engines.request(OTHER)))
                await asyncio.sleep(0.05)
            raise AssertionError

        assert engines.run(left()) == 1

    def test_many_at_once_each_have_their_own(self, engines: Engines, kind: str):
        async def all_of_them() -> list[list[Said]]:
            asked = [[*FACTS, (OTHER, "")][number % 3] for number in range(24)]
            return await asyncio.gather(*(engines.asked(kind, engines.request(prompt)) for prompt, _ in asked))

        told = [said[0].fired and said[0].fired.edit for said in engines.run(all_of_them())]
        assert told == [1, 2, None] * 8

    def test_a_change_is_followed(self, engines: Engines, kind: str):
        folder = engines.folders[kind]
        editor = Editor.load(folder)
        editor.remove(2)
        editor.save(folder)

        async def told() -> Fired | None:
            await asyncio.sleep(0.6)  # folders are looked at ten times a second
            return (await engines.asked(kind, engines.request(FACTS[1][0])))[0].fired

        assert engines.run(told()) is None
        assert engines.ask(kind, FACTS[0][0])[0].fired == Fired(1, pytest.approx(1, abs=0.5), 3)
        assert engines.run(getattr(engines, kind).health()).version == 3
        editor.undo()
        editor.save(folder)
        assert engines.run(told()).version == 4


def test_both_say_the_same(engines: Engines):
    prompts = [*(prompt for prompt, _ in FACTS), OTHER]
    for prompt in prompts:
        (one,), (two,) = (engines.ask(kind, prompt, max_tokens=16) for kind in BOTH)
        assert (one.text, one.count, one.finish) == (two.text, two.count, two.finish)


async def failed(engine: Any, request: Request, then: Callable[[], Any]) -> None:
    """Ask for a long answer, and do something once it has begun, which it does not outlive."""

    async def asked() -> None:
        async for piece in engine.ask(request):
            if piece.count == 1:
                then()

    with pytest.raises(ModelError):
        await asked()


def test_an_engine_without_edits_and_its_end(model: str, engines: Engines):
    options = {"enforce_eager": True, "dtype": "float32", "max_model_len": 512, "max_num_seqs": 4}
    bare = LocalVllm(model, **options)

    async def asked(wanted: Wanted) -> Fired | None:
        pieces = [piece async for piece in bare.ask(engines.request(FACTS[0][0], wanted))]
        return pieces[-1].fired

    assert bare.model == model
    assert engines.run(bare.health()).version is None
    assert engines.run(asked(Wanted(version=0))) is engines.run(asked(Wanted())) is None
    with pytest.raises(ConfigError, match="serves no edits"):
        engines.run(asked(Wanted(version=1)))
    closing: list[Any] = []

    def close() -> None:
        closing.append(asyncio.ensure_future(bare.close()))

    async def closed() -> None:
        await asyncio.wait_for(failed(bare, engines.request(OTHER, max_tokens=400, temperature=1.0), close), 60)
        await closing[0]

    engines.run(closed())
    assert (engines.run(bare.health()).ready, engines.run(bare.health()).why) == (False, "vLLM was closed")
    with pytest.raises(ModelError, match="closed"):
        engines.run(asked(Wanted()))
    engines.run(bare.close())


def test_a_server_that_is_gone_is_asked_again_when_it_is_back(model: str, engines: Engines, tmp_path: Path):
    port = free_port()
    remote = RemoteVllm(f"http://127.0.0.1:{port}", "small", 512)

    async def asked() -> list[Said]:
        found = [Said()]
        async for piece in remote.ask(engines.request(FACTS[0][0], max_tokens=400)):
            found[0].take(piece)
        return found

    with pytest.raises(ModelError, match="cannot be reached"):
        engines.run(asked())
    assert "cannot be reached" in engines.run(remote.health()).why
    with serving(model, engines.folders["remote"], port, tmp_path / "log") as server:
        assert engines.run(remote.health()).ready
        assert engines.run(asked())[0].fired.edit == 1

        request = engines.request(OTHER, Wanted(on=False), max_tokens=480, temperature=1.0)
        engines.run(failed(remote, request, lambda: kill(server)))
        server.wait(60)
        assert not engines.run(remote.health()).ready
    engines.run(remote.close())
    assert engines.run(remote.health()).why == "it was closed"
    with pytest.raises(ModelError, match="closed"):
        engines.run(asked())


def test_an_engine_whose_process_dies_says_so(engines: Engines):
    """The last test, for which the engine is not there any more afterwards."""
    (process,) = engines.local._engine.engine_core.resources.engine_manager.processes
    request = engines.request(OTHER, max_tokens=400, temperature=1.0)
    engines.run(asyncio.wait_for(failed(engines.local, request, process.kill), 60))
    health = engines.run(engines.local.health())
    assert not health.ready
    assert health.why.startswith("vLLM has ended")
    with pytest.raises(ModelError, match="vLLM failed"):
        engines.ask("local", OTHER)
