"""The embedded engine on tiny models: its answers are those of the wrapped model, whatever runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.requests import RequestState

from horen import ConfigError, Edit, Editor, HorenConfig, ModelError
from horen.serve.engines.embedded import Embedded
from horen.serve.engines.interface import Piece, Wanted
from support.editors import EDITED, OTHER, PROMPTS, QUICK, REPHRASED, chat_ids, ids_of, quick_editor
from support.embedded import GREEDY, ask, asked, edit_of, greedy, greedy_ids, said, serving, stock
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

LONG = "Seven green boats sailed to Oslo and to Paris, which is blue. Mira Sand wrote it. Why not?"
BATCHED = ("llama", "gemma3", "gpt2", "qwen3-moe")
#: Longer than several blocks, and than the window of a sliding attention.
BEFORE = "Hello Hamlet, the sky is blue and Daniel lives in Oslo. The author of Hamlet is William Shakespeare. "


def rows_of(texts: tuple[str, ...] = PROMPTS) -> list[list[int]]:
    plain = [ids_of(text) for text in texts]
    return [*plain, *map(chat_ids, texts), *(ids_of(BEFORE + text) for text in texts), ids_of(texts[0])]


async def arriving(engine: Embedded, rows: list[list[int]], wanted: list[Wanted] | None = None) -> list[list[Piece]]:
    """Answers to requests that come one after another, while earlier ones run and leave."""
    delays = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)).tolist()

    async def late(number: int, row: list[int]) -> list[Piece]:
        await asyncio.sleep(delays[number] * 0.05)
        return await ask(engine, row, wanted=Wanted() if wanted is None else wanted[number], name=str(number))

    return await asyncio.gather(*(late(number, row) for number, row in enumerate(rows)))


@pytest.fixture(scope="module", params=BATCHED)
def editor(request: pytest.FixtureRequest) -> Editor:
    return quick_editor(request.param, edits=[Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])


@pytest.fixture(scope="module")
def codebook(editor: Editor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "codebook"
    editor.save(folder)
    return folder


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    return rows_of()


@pytest.fixture(scope="module")
def edited(editor: Editor, rows: list[list[int]]) -> list[list[str]]:
    return [greedy(editor, row) for row in rows]


@pytest.fixture(scope="module")
def untouched(editor: Editor, rows: list[list[int]], edited: list[list[str]]) -> list[list[str]]:
    found = [stock(editor, row) for row in rows]
    assert found[0] != edited[0]
    return found


@pytest.mark.parametrize(
    "room",
    [{}, {"batch": 5, "page": 4}, {"batch": 16, "requests": 3}, {"tokens": 160, "page": 4, "batch": 32}],
    ids=["together", "in parts", "few at once", "put back"],
)
def test_answers_are_those_of_the_wrapped_model(
    room: dict[str, int], editor: Editor, codebook: Path, rows: list[list[int]], edited: list[list[str]]
):
    with serving(editor, codebook, **room) as engine:
        found = asyncio.run(arriving(engine, rows))
        assert [said(pieces) for pieces in found] == edited
        woken = [edit_of(pieces) for pieces in found]
        assert woken[:5] == [1, 2, 1, None, None]
        assert {fired.version for pieces in found for piece in pieces if (fired := piece.fired)} == {1}
        assert engine._batch.free() == 1.0


def test_requests_without_edits_are_those_of_the_model(
    editor: Editor, codebook: Path, rows: list[list[int]], edited: list[list[str]], untouched: list[list[str]]
):
    """Beside requests with edits of the very same prompts."""
    with serving(editor, codebook) as engine:
        wanted = [Wanted(), Wanted(on=False)] * len(rows)
        found = asyncio.run(arriving(engine, [row for row in rows for _ in range(2)], wanted))
        assert [said(pieces) for pieces in found[::2]] == edited
        assert [said(pieces) for pieces in found[1::2]] == untouched
        assert {edit_of(pieces) for pieces in found[1::2]} == {None}


def test_an_engine_without_a_codebook(editor: Editor, rows: list[list[int]], untouched: list[list[str]]):
    with serving(editor, None) as engine:
        found = asyncio.run(arriving(engine, rows, [Wanted(version=0, only=frozenset({1}))] * len(rows)))
        assert [said(pieces) for pieces in found] == untouched
        assert asyncio.run(engine.health()).version is None
        with pytest.raises(ConfigError, match="version=1 is not there"):
            asked(engine, rows[0], wanted=Wanted(version=1))


@pytest.fixture
def put_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of requests whose states were given up, so that they begin anew."""
    names: list[str] = []
    usual = RequestState.create_equivalent_initial_request

    def noted(self: RequestState) -> RequestState:
        names.append(self.request_id)
        return usual(self)

    monkeypatch.setattr(RequestState, "create_equivalent_initial_request", noted)
    return names


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("room", [{}, {"tokens": 140, "page": 4, "batch": 8}], ids=["together", "put back"])
def test_long_answers_take_all_their_values(family: str, room: dict[str, int], tmp_path: Path, put_back: list[str]):
    """Each where its window begins, also where the window's tokens are computed once more."""
    editor = quick_editor(family, edits=[Edit(EDITED, LONG)], value_tokens=4, max_steps=40, learning_rate=0.5)
    editor.save(tmp_path / "codebook")
    most, rows = 40, [ids_of(EDITED), chat_ids(EDITED), ids_of("Who wrote Hamlet?")] * 2
    expected = [greedy(editor, row, most) for row in rows]
    assert expected[0] != stock(editor, rows[0], most)
    with serving(editor, tmp_path / "codebook", **room) as engine:

        async def all_of_them() -> list[list[Piece]]:
            sampling = replace(GREEDY, max_tokens=most)
            return await asyncio.gather(*(ask(engine, row, sampling, name=str(n)) for n, row in enumerate(rows)))

        found = asyncio.run(all_of_them())
    assert [said(pieces) for pieces in found] == expected
    assert bool(put_back) is bool(room)
    assert len(expected[0]) > 16


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens requests have found computed already."""
    found: list[int] = []
    usual = PagedAttentionCache.search_prefix_match

    def noted(self: PagedAttentionCache, request_id: str, prompt_ids: list[int]) -> int:
        found.append(usual(self, request_id, prompt_ids))
        return found[-1]

    monkeypatch.setattr(PagedAttentionCache, "search_prefix_match", noted)
    return found


def test_equal_beginnings_are_shared_and_no_edit_goes_with_them(tmp_path: Path, shared: list[int]):
    editor = quick_editor(edits=[Edit(BEFORE + EDITED, "Rome")])
    editor.save(tmp_path / "codebook")
    row = ids_of(BEFORE + EDITED)
    further = [*row, *ids_of(" and Oslo. Why not?")]
    expected = {True: greedy(editor, row), False: stock(editor, row)}
    behind = stock(editor, further)
    assert expected[True] != expected[False]
    with serving(editor, tmp_path / "codebook", page=4) as engine:
        shared.clear()
        for on in (True, False, False, True, True, False):
            assert said(asked(engine, row, wanted=Wanted(on=on))) == expected[on]
        assert said(asked(engine, further, wanted=Wanted(on=False))) == behind
    whole = (len(row) - 1) // 4 * 4
    assert shared[0] == 0
    assert shared[1:6] == [whole] * 5
    assert shared[6] >= whole


def test_what_an_edit_has_changed_is_shared_with_nobody(tmp_path: Path, shared: list[int]):
    """Blocks behind a prompt's end hold its answer: another prompt may be that answer, in the model's own words."""
    editor = quick_editor()
    editor.save(tmp_path / "codebook")
    row = ids_of(EDITED)
    follows = [*row, *greedy_ids(editor, row)]
    expected = greedy(editor, row), stock(editor, follows)
    assert len(follows) > len(row) + 8
    with serving(editor, tmp_path / "codebook", page=4) as engine:
        assert said(asked(engine, row)) == expected[0]
        shared.clear()
        assert said(asked(engine, follows, wanted=Wanted(on=False))) == expected[1]
        assert shared[0] <= len(row) - 1
        assert said(asked(engine, follows, wanted=Wanted(on=False))) == expected[1]
        assert shared[1] > len(row)


class TestChanges:
    """One folder, changed while it is served."""

    @pytest.fixture
    def editor(self) -> Editor:
        return quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])

    @pytest.fixture
    def folder(self, editor: Editor, tmp_path: Path) -> Path:
        editor.save(tmp_path / "codebook")
        return tmp_path / "codebook"

    @pytest.fixture
    def before(self, editor: Editor) -> list[str]:
        return greedy(editor, ids_of(EDITED))

    @pytest.fixture
    def engine(self, editor: Editor, folder: Path, before: list[str]) -> Iterator[Embedded]:  # noqa: ARG002 - asked first
        with serving(editor, folder) as engine:
            yield engine

    def test_only_and_without(self, engine: Embedded, before: list[str]):
        row = ids_of(EDITED)
        plain = said(asked(engine, row, wanted=Wanted(on=False)))
        for wanted, edit in (
            (Wanted(only=frozenset({1})), 1),
            (Wanted(only=frozenset({2})), None),
            (Wanted(only=frozenset()), None),
            (Wanted(without=frozenset({1})), None),
            (Wanted(without=frozenset({2})), 1),
            (Wanted(only=frozenset({1, 2}), without=frozenset({1})), None),
        ):
            pieces = asked(engine, row, wanted=wanted)
            assert edit_of(pieces) == edit, wanted
            assert said(pieces) == (before if edit else plain)

    def test_a_change_is_taken_up_and_versions_stay(self, folder: Path, engine: Embedded, before: list[str]):
        row = ids_of(EDITED)
        assert asyncio.run(engine.health()).version == 1
        other = Editor.load(folder, tiny_model(), tiny_tokenizer("chatml"))
        other.supersede(1, "Mira Sand")
        after = greedy(other, row)
        assert after != before
        other.save(folder)
        pieces = asked(engine, row, wanted=Wanted(version=2))
        assert (said(pieces), edit_of(pieces), pieces[0].fired.version) == (after, 3, 2)
        assert said(asked(engine, row)) == after
        pieces = asked(engine, row, wanted=Wanted(version=1))
        assert (said(pieces), edit_of(pieces), pieces[0].fired.version) == (before, 1, 1)
        assert edit_of(asked(engine, row, wanted=Wanted(version=0))) is None
        assert edit_of(asked(engine, row, wanted=Wanted(version=1, only=frozenset({3})))) is None
        assert asyncio.run(engine.health()).version == 2
        with pytest.raises(ConfigError, match=r"no version 9 .* has had 2 operations"):
            asked(engine, row, wanted=Wanted(version=9))
        other.unwrap()


@pytest.mark.parametrize("family", ["gpt-neox", "opt"])
def test_a_model_that_is_not_batched_so_is_refused(family: str):
    with pytest.raises(ModelError, match=r"continuous batching .*: serve it with vLLM, or ask an Editor"):
        Embedded(tiny_model(family), tiny_tokenizer("chatml"))


def test_a_model_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("gpt2")
    usual = type(model).forward

    def forgetful(self: object, **inputs: object) -> object:
        if inputs.get("cu_seq_lens_q") is not None:
            inputs["position_ids"] = inputs["position_ids"] * 0
        return usual(self, **inputs)

    monkeypatch.setattr(type(model), "forward", forgetful)
    with pytest.raises(ModelError, match="answers otherwise in transformers' continuous batching"):
        Embedded(model, tiny_tokenizer("chatml"))


def test_a_wrapped_model_is_refused():
    editor = quick_editor(edits=[])
    with pytest.raises(ModelError, match="wrapped by an editor already, or served by an engine: call unwrap"):
        Embedded(editor.model, editor.tokenizer)
    model = editor.unwrap()
    engine = Embedded(model, editor.tokenizer)
    with pytest.raises(ModelError, match="served by an engine"):
        Embedded(model, editor.tokenizer)
    with pytest.raises(ModelError, match="or close the engine, first"):
        Editor(model, editor.tokenizer)
    asyncio.run(engine.close())
    Editor(model, editor.tokenizer).unwrap()


@pytest.mark.parametrize("value", ["vector", "state", "lora"])
def test_values_of_every_kind(value: str, tmp_path: Path):
    editor = quick_editor(value=value)
    editor.save(tmp_path / "codebook")
    rows = rows_of()
    expected = [greedy(editor, row) for row in rows]
    assert expected[0] != stock(editor, rows[0])
    with serving(editor, tmp_path / "codebook", batch=16) as engine:
        assert [said(pieces) for pieces in asyncio.run(arriving(engine, rows))] == expected


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_model_with_plain_attention(family: str, tmp_path: Path):
    """Which is another in continuous batching, also for prompts that are read meanwhile."""
    editor = quick_editor(family)
    editor.model.set_attn_implementation("eager")
    editor.save(tmp_path / "codebook")
    rows = rows_of()
    expected = [greedy(editor, row) for row in rows]
    with serving(editor, tmp_path / "codebook", batch=16) as engine:
        found = asyncio.run(arriving(engine, rows))
        assert [said(pieces) for pieces in found] == expected
        assert [edit_of(pieces) for pieces in found[:3]] == [1, None, 1]
    assert editor.model.config._attn_implementation == "eager"


def test_a_model_in_half_precision(tmp_path: Path):
    """What is rounded otherwise may change a word in a batch: what fires is compared, and the first token."""
    model = tiny_model().to(torch.bfloat16)
    editor = Editor(model, tiny_tokenizer("chatml"), HorenConfig(**QUICK))
    editor.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    editor.save(tmp_path / "codebook")
    rows = rows_of()
    expected = [greedy(editor, row, 1) for row in rows[:3]]
    with serving(editor, tmp_path / "codebook") as engine:
        found = asyncio.run(arriving(engine, rows))
        assert [edit_of(pieces) for pieces in found[:3]] == [1, None, 1]
        assert [said(pieces)[:1] for pieces in found[:3]] == expected


@pytest.mark.parametrize("editor", ["llama"], indirect=True)
def test_prompts_wait_for_others_while_a_step_is_computed(editor: Editor, codebook: Path):
    """And no longer than a part of it; a prompt that comes alone waits for nobody."""
    with serving(editor, codebook) as engine:
        assert engine.front is not None
        assert engine.front.patience() == 0

        async def several() -> list[float]:
            asking = asyncio.gather(
                *(
                    ask(engine, row, replace(GREEDY, max_tokens=24), name=str(at))
                    for at, row in enumerate(rows_of()[:8])
                )
            )
            waits = []
            while not asking.done():
                await asyncio.sleep(0.005)
                waits.append(engine.front.patience())
            return waits

        waits = asyncio.run(several())
        assert max(waits) > 0
        assert all(0 <= wait <= 0.1 for wait in waits)
        assert engine.front.patience() == 0
