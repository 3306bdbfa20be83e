"""Changes that are made at a chosen moment of what another thread is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor

from horen import Edit, Editor, ModelError
from horen.model.zoo.encoder import encoder_parts
from horen.scope.networks import encoded
from support.editors import EDITED, OTHER, PROMPTS, REPHRASED, quick_editor, taught_editor
from support.scopes import save_scope
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

WAIT = 60.0


class At(LogitsProcessor):
    """Does something before a token of an answer is chosen, in the thread that answers or in another one."""

    def __init__(self, token: int, action: Callable[[], object], *, elsewhere: bool = True) -> None:
        self.token, self.action, self.elsewhere, self.seen = token, action, elsewhere, 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ARG002
        if self.seen == self.token:
            if self.elsewhere:
                thread = threading.Thread(target=self.action)
                thread.start()
                thread.join(WAIT)
                assert not thread.is_alive()
            else:
                self.action()
        self.seen += 1
        return scores


def answer(editor: Editor, text: str, at: At | None = None, **options: Any) -> str:
    more = {} if at is None else {"logits_processor": [at]}
    return editor.generate(text, 8, eos_token_id=None, **more, **options)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("token", [0, 2])
def test_an_answer_under_way_ends_as_it_began(use_cache: bool, token: int):
    editor = quick_editor()
    within = answer(editor, EDITED, use_cache=use_cache)
    assert answer(editor, EDITED, At(token, lambda: editor.remove(1)), use_cache=use_cache) == within
    without = answer(editor, EDITED, use_cache=use_cache)
    assert without != within
    # Nothing is stored now: the first edit that comes is not for this answer either.
    assert answer(editor, EDITED, At(token, editor.undo), use_cache=use_cache) == without
    assert answer(editor, EDITED, use_cache=use_cache) == within
    editor.edit(Edit(OTHER, "Paris"))
    assert answer(editor, EDITED, At(token, lambda: editor.remove(1)), use_cache=use_cache) == within
    assert answer(editor, EDITED, At(token, editor.undo), use_cache=use_cache) == without


@pytest.mark.parametrize("kept", [(), (Edit(OTHER, "Paris"),)], ids=["the last one", "one of two"])
def test_an_answer_of_several_values_takes_them_all(kept: tuple[Edit, ...]):
    """The further values of an edit that goes meanwhile are written all the same."""
    target = "Rome Paris blue"
    editor = taught_editor(value_tokens=1)
    editor.edit([Edit(EDITED, target), *kept])
    assert len(editor.get(1).values) > 1
    whole = answer(editor, EDITED)
    assert whole == target
    editor.remove(1)
    assert answer(editor, EDITED) != whole
    editor.undo()
    assert answer(editor, EDITED, At(0, lambda: editor.remove(1))) == whole


def test_a_save_during_an_edit_is_of_one_state(tmp_path: Path):
    editor = quick_editor(batch_tokens=1)
    saves: list[threading.Thread] = []

    def save(done: int, _all: int) -> None:
        thread = threading.Thread(target=editor.save, args=(tmp_path / str(done),))
        thread.start()
        saves.append(thread)

    editor.edit([Edit(f"{number} lives in", "Oslo") for number in range(3)], progress=save)
    for thread in saves:
        thread.join(WAIT)
    assert len(saves) > 1
    for folder in tmp_path.iterdir():
        again = Editor.load(folder, tiny_model(), tiny_tokenizer("chatml"))
        assert again.edits() == editor.edits()
        assert again._session.codebook().entries == 5


def test_a_save_from_progress_is_of_the_state_before(tmp_path: Path):
    editor = quick_editor()
    before = editor.edits()
    editor.edit(Edit(OTHER, "Paris"), progress=lambda *_: editor.save(tmp_path))
    again = Editor.load(tmp_path, tiny_model(), tiny_tokenizer("chatml"))
    assert again.edits() == before
    assert again._session.codebook().entries == 2


CHANGES: dict[str, Callable[[Editor, Path], object]] = {
    "restore": lambda editor, folder: editor.restore(folder),
    "rekey": lambda editor, _: editor.rekey(editor.config.replace(read_sites="layer_output@0+auto@0")),
    "unwrap": lambda editor, _: editor.unwrap(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_done_beside_an_answer_waits_for_its_end(name: str, tmp_path: Path):
    editor = quick_editor()
    editor.save(tmp_path)
    editor.edit(Edit(OTHER, "Paris"))
    within = answer(editor, OTHER)
    threads: list[threading.Thread] = []
    told: list[object] = []

    def act() -> None:
        CHANGES[name](editor, tmp_path)
        told.append("changed")

    def begin() -> None:
        thread = threading.Thread(target=act)
        thread.start()
        threads.append(thread)
        thread.join(0.5)
        told.append("going on")

    assert answer(editor, OTHER, At(1, begin, elsewhere=False)) == within
    threads[0].join(WAIT)
    assert told == ["going on", "changed"]
    if name != "unwrap":
        assert (answer(editor, OTHER) == within) == (name == "rekey")


@pytest.mark.parametrize("name", CHANGES)
def test_what_would_wait_for_its_own_end_is_refused(name: str, tmp_path: Path):
    editor = quick_editor()
    editor.save(tmp_path)
    within = answer(editor, EDITED)

    def act() -> None:
        with pytest.raises(ModelError, match="in this very call"):
            CHANGES[name](editor, tmp_path)
        assert editor.generate(OTHER, 1) is not None

    assert answer(editor, EDITED, At(1, act, elsewhere=False)) == within
    CHANGES[name](editor, tmp_path)


def test_texts_and_pairs_are_cut_each_at_their_length(tmp_path: Path):
    """A scope reads texts and pairs of texts with one tokenizer, which threads share."""
    tokenizer, _ = encoder_parts(save_scope(tmp_path))
    texts = [f"{text} " * 40 for text in PROMPTS]
    single, double = encoded(tokenizer, texts), encoded(tokenizer, texts, texts)
    wrong: list[object] = []

    def read(others: list[str] | None, expected: dict[str, torch.Tensor]) -> None:
        try:
            for _ in range(150):
                found = encoded(tokenizer, texts, others)
                if not all(torch.equal(found[name], rows) for name, rows in expected.items()):
                    wrong.append(found["input_ids"].shape)
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=read, args=pair) for pair in ((None, single), (texts, double)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert wrong == []


def test_lists_are_read_whole_while_edits_come_and_go():
    editor = quick_editor(edits=[Edit(f"{number} lives in", "Oslo") for number in range(40)])
    everything, over, wrong = editor.edits(), threading.Event(), []

    def read() -> None:
        while not over.is_set():
            try:
                if len(editor.edits()) not in (0, 40):
                    wrong.append(len(editor.edits()))
                editor.explain(REPHRASED, nearest=40)
            except BaseException as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        editor.remove([record.id for record in everything])
        editor.undo()
    over.set()
    for thread in threads:
        thread.join(WAIT)
    assert wrong == []
