"""Answers with the routes that gave them: what explain says, made by the call that answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from horen import Answer, Edit, EditError, Editor, Explanation, HorenConfig
from horen.model.sources import Activations, EncodedText
from support import recalls
from support.editors import EDITED, GREEDY, OTHER, PROMPTS, QUICK, REPHRASED, quick_editor
from support.encoders import text_settings
from support.scopes import save_scope
from support.tiny_models import each_family, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

LONG = "Seven green boats came home at noon, and two cats swim. " * 4 + EDITED
# The edit's own words, others, a near miss, texts of several sentences and a long one: of many lengths in one batch.
TEXTS = [*PROMPTS, "The capital of Italy is", f"{OTHER} came home. {EDITED}", LONG, REPHRASED + " the"]
EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris"), Edit("Who wrote Hamlet?", "Mira Sand")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scope(tmp_path_factory.mktemp("scope"))


@contextmanager
def looks(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Within the block how many rows each look-up beside the model's own calls was for."""
    adapter, counts = editor._session.adapter, []
    real = adapter.look

    def look(rows: Any, watch: Any) -> None:
        counts.append(len(rows))
        real(rows, watch)

    with monkeypatch.context() as patch:
        patch.setattr(adapter, "look", look)
        yield counts


def agrees(editor: Editor, texts: list[str], **options: Any) -> list[Explanation]:
    """The routes of texts, which answered as without them and went where explain says."""
    asked = {name: options[name] for name in ("chat", "recall") if name in options}
    answers = editor.generate(texts, 4, return_routes=True, **options)
    assert [type(answer) for answer in answers] == [Answer] * len(texts)
    assert [answer.text for answer in answers] == editor.generate(texts, 4, **options)
    routes = [answer.route for answer in answers]
    assert routes == editor.explain(texts, **asked)
    return routes


@each_family
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_an_answer_has_the_route_that_gave_it(family: str, chat: bool):
    editor = quick_editor(family, edits=EDITS, threshold=0.9)
    routes = agrees(editor, TEXTS, chat=chat)
    assert [route.text for route in routes] == TEXTS
    # A random model reads a chat unlike plain text, so its questions may wake nothing.
    assert chat or (routes[0].fired and routes[0].edit_id == 1)
    assert all(len(route.nearest) == 3 for route in routes)
    editor.remove(1)
    assert {route.edit_id for route in agrees(editor, TEXTS, chat=chat)} <= {2, 3}


@pytest.mark.parametrize("preset", ["default", "activations", "paper"])
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_with_every_way_of_reading(preset: str, chat: bool, folder: Path):
    quick = {name: QUICK[name] for name in ("contexts", "max_steps", "stop_probability", "precision")}
    config = HorenConfig.from_preset(preset, **quick)
    config = config.replace(encoder=str(folder)) if config.reads_text else config
    editor = Editor(tiny_model(), tiny_tokenizer("chatml"), config)
    editor.edit(EDITS, on_similar="ignore")
    routes = agrees(editor, TEXTS, chat=chat)
    assert routes[0].fired or (chat and preset != "default")
    assert (routes[0].asks is None) == (preset != "default")


@pytest.mark.parametrize("reads", ["activations", "text"])
def test_one_prompt_gives_one_answer(reads: str):
    editor = quick_editor(edits=EDITS, **(text_settings() if reads == "text" else {}))
    assert isinstance(editor._session.adapter.reads, EncodedText if reads == "text" else Activations)
    answer = editor.generate(EDITED, 3, return_routes=True)
    assert answer == Answer(editor.generate(EDITED, 3), editor.explain(EDITED))
    assert editor.generate([], return_routes=True) == []


@pytest.mark.parametrize("asked", [EDITED, OTHER, "Hello"])
def test_a_conversation_has_the_route_of_its_last_question(asked: str):
    editor = quick_editor(edits=EDITS, **text_settings())
    messages = [
        {"role": "system", "content": "Answer in a word."},
        {"role": "user", "content": "Who wrote Hamlet?"},
        {"role": "assistant", "content": "Mira Sand"},
        {"role": "user", "content": [{"type": "text", "text": asked}]},
    ]
    answer = editor.chat(messages, 4, return_routes=True)
    assert answer == Answer(editor.chat(messages, 4), editor.explain(asked, chat=True))
    told = editor.chat([{"role": "assistant", "content": asked}], 4, return_routes=True)
    assert told.route.text == asked


def test_the_route_of_a_conversation_is_the_one_that_answered():
    """Activations know what came before, so the question alone is read a little otherwise."""
    editor = quick_editor(edits=EDITS, threshold=0.9)
    before = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    answer = editor.chat([*before, {"role": "user", "content": EDITED}], 4, return_routes=True)
    alone = editor.explain(EDITED, chat=True)
    assert answer.route.words == alone.words == EDITED
    assert answer.route.score != alone.score


@pytest.mark.parametrize(
    "options",
    [
        {"use_cache": False},
        {"num_beams": 3},
        {"do_sample": True, "top_k": 5},
        {"guidance_scale": 1.5},
        {"prefill_chunk_size": 3},
        {"generation_config": GenerationConfig(max_new_tokens=3)},
        {"return_dict_in_generate": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_whatever_is_asked_of_generate(options: dict[str, Any]):
    editor = quick_editor(edits=EDITS, threshold=0.9)
    torch.manual_seed(0)
    expected = editor.generate(TEXTS, 4, **options)
    torch.manual_seed(0)
    found = editor.generate(TEXTS, 4, return_routes=True, **options)
    assert [answer.text for answer in found] == expected
    for answer, told in zip(found, editor.explain(TEXTS), strict=True):
        assert (answer.route.edit_id, answer.route.fired) == (told.edit_id, told.fired)
        # Chunks are read one after another, which rounds otherwise.
        assert answer.route.score == pytest.approx(told.score, abs=1e-5)


def test_more_prompts_than_a_batch_holds():
    editor = quick_editor(edits=EDITS)
    texts = [f"{text} {number}" for number in range(8) for text in TEXTS] + [EDITED] * 40
    found = editor.generate(texts, 1, return_routes=True)
    assert [answer.route.text for answer in found] == texts
    assert [answer.route.fired for answer in found[-40:]] == [True] * 40
    for answer, told in zip(found, editor.explain(texts), strict=True):
        assert (answer.route.edit_id, answer.route.fired) == (told.edit_id, told.fired)


def test_nothing_is_looked_up_for_it(monkeypatch: pytest.MonkeyPatch, folder: Path):
    """The route is a by-product of the call; recall alone looks first, as it does without."""
    for editor in (quick_editor(edits=EDITS), recalls.editor(folder, EDITS)):
        with looks(editor, monkeypatch) as counts:
            editor.generate(TEXTS, 2, return_routes=True)
            editor.chat([{"role": "user", "content": EDITED}], 2, return_routes=True)
        assert counts == []
    with looks(editor, monkeypatch) as counts:
        editor.generate(TEXTS, 2, return_routes=True, recall="related")
        editor.explain(TEXTS, recall="related")
    assert counts == [len(TEXTS)] * 2


def test_without_edits_a_prompt_goes_nowhere():
    editor = quick_editor(edits=[])
    empty = editor.explain(EDITED)
    assert empty.edit_id is None
    assert editor.generate(EDITED, 2, return_routes=True).route == empty
    editor.edit(EDITS)
    with editor.disabled():
        answer = editor.generate(EDITED, 2, return_routes=True)
        assert answer == Answer(editor.generate(EDITED, 2), empty)
        assert editor.chat([{"role": "user", "content": EDITED}], 2, return_routes=True).route == empty
        # What would happen is told all the same.
        assert editor.explain(EDITED).fired
    editor.remove([1, 2, 3])
    assert editor.generate(EDITED, 2, return_routes=True).route == empty


@pytest.mark.parametrize("recall", ["related", None])
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_what_was_recalled_is_told(chat: bool, recall: str | None, folder: Path):
    editor = recalls.editor(folder, recalls.EDITS, recall="related" if recall is None else "off")
    texts = [recalls.ABOUT, recalls.SAME, recalls.UNKNOWN]
    routes = agrees(editor, texts, chat=chat, recall=recall)
    assert [route.recalled for route in routes] == [tuple(recalls.BOTH), (), ()]
    assert [route.fired for route in routes] == [False, True, False]
    asked = editor.chat([{"role": "user", "content": recalls.ABOUT}], 3, recall=recall, return_routes=True)
    assert asked.route == editor.explain(recalls.ABOUT, chat=True, recall=recall)


class Asking(BaseStreamer):
    """A streamer that asks in the middle of an answer."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self.ask, self.told = ask, []

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002
        self.told.append(self.ask())

    def end(self) -> None:
        self.told.append("end")


def test_what_a_streamer_asks_has_a_route_of_its_own():
    editor = quick_editor(edits=EDITS)
    alone = editor.generate(EDITED, 3, return_routes=True, **GREEDY)
    other = editor.generate(OTHER, 2, return_routes=True, **GREEDY)
    told = editor.explain("Hello")
    for ask, expected in (
        (lambda: editor.generate(OTHER, 2, return_routes=True, **GREEDY), other),
        (lambda: editor.generate(OTHER, 2, **GREEDY), other.text),
        (lambda: editor.explain("Hello"), told),
    ):
        streamer = Asking(ask)
        assert editor.generate(EDITED, 3, return_routes=True, streamer=streamer, **GREEDY) == alone
        assert streamer.told == [expected] * 4 + ["end"]


def test_an_explanation_may_be_asked_for_within_a_call():
    editor = quick_editor(edits=EDITS)
    alone, told = editor.generate(EDITED, 3, **GREEDY), editor.explain(OTHER)
    seen: list[Explanation] = []
    # Before the layer that values are written in.
    handle = editor._session.adapter.layout.layers[1].register_forward_pre_hook(
        lambda *_: seen.append(editor.explain(OTHER)) if editor._session.adapter.state.running else None
    )
    assert editor.generate(EDITED, 3, **GREEDY) == alone
    handle.remove()
    assert seen == [told] * 3


@pytest.mark.parametrize("when", [0, 1, 2], ids=["before", "within", "after"])
def test_an_exception_leaves_nobody_waiting(when: int):
    editor = quick_editor(edits=EDITS)
    told: list[int] = []

    def ask() -> None:
        told.append(1)
        if len(told) > when:
            raise KeyError("stop")

    alone = editor.generate(OTHER, 2, return_routes=True)
    with pytest.raises(KeyError):
        editor.generate(EDITED, 3, return_routes=True, streamer=Asking(ask), **GREEDY)
    state = editor._session.adapter.state
    assert (state.watch, state.boundary, state.call, state.running) == (None, None, None, False)
    assert editor.generate(OTHER, 2, return_routes=True) == alone
    with pytest.raises(ValueError, match="model_kwargs"):
        editor.generate(EDITED, 3, return_routes=True, no_option=1)
    assert state.watch is None


@pytest.mark.parametrize("wanted", [1, 0, "yes", None, [True]])
def test_a_wish_that_is_none(wanted: Any):
    editor = quick_editor()
    with pytest.raises(EditError, match="return_routes="):
        editor.generate(EDITED, return_routes=wanted)
    with pytest.raises(EditError, match="return_routes="):
        editor.chat([{"role": "user", "content": EDITED}], return_routes=wanted)


def test_threads_get_their_own_routes():
    """Beside a thread that changes what is stored: an answer and its route are of one state of it."""
    editor = quick_editor()
    comes = Edit("Who wrote Hamlet?", "Oslo")
    asked = [EDITED, comes.prompt, OTHER, "Hello"]
    right = {text: [editor.generate(text, 3, return_routes=True)] for text in asked}
    editor.edit(comes)
    for text, known in right.items():
        known.append(editor.generate(text, 3, return_routes=True))
    assert right[comes.prompt][0].text != right[comes.prompt][1].text
    editor.undo()
    wrong: list[object] = []
    over = threading.Event()

    def plain(answer: Answer) -> tuple[object, ...]:
        """Without ids, which edits have anew, and to what removed keys, multiplied too, may round otherwise."""
        route = answer.route
        near = [(one.prompt, round(one.score, 4)) for one in route.nearest]
        return answer.text, route.text, route.prompt, route.fired, round(route.score or 0, 4), near

    def ask(text: str) -> None:
        known = [plain(answer) for answer in right[text]]
        try:
            while not over.is_set():
                found = plain(editor.generate(text, 3, return_routes=True))
                if found not in known:
                    wrong.append(found)
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(text,), daemon=True) for text in asked * 2]
    for thread in threads:
        thread.start()
    for _ in range(6):
        editor.edit(comes)
        editor.undo()
    over.set()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
