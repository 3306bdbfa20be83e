"""Calls of the model itself, beside what can only be done while nobody asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor

from horen import Edit, Editor, ModelError
from support.editors import GREEDY, OTHER, ids_of, logits, quick_editor

WAIT = 60.0
# Of so many edits that a compaction numbers the last one anew.
EDITS = [Edit("Hello", "Oslo"), Edit("It is blue", "Rome"), Edit(OTHER, "Paris")]


class Pause(LogitsProcessor):
    """Does something before the second token of an answer is chosen."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action, self.seen = action, 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ARG002
        self.seen += 1
        if self.seen == 2:
            self.action()
        return scores


def said(editor: Editor, action: Callable[[], object] = lambda: None, **options: Any) -> list[int]:
    """What the model itself says to a prompt, with something done in the middle of it."""
    ids = torch.tensor([ids_of(OTHER)])
    with torch.no_grad():
        found = editor.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            logits_processor=[Pause(action)],
            **GREEDY,
            **options,
        )
    return [int(token) for token in found[0]]


CHANGES: dict[str, Callable[[Editor, Path], object]] = {
    "restore": lambda editor, folder: editor.restore(folder),
    "rekey": lambda editor, _: editor.rekey(editor.config.replace(read_sites="layer_output@0+auto@0", threshold=0.999)),
    "compact": lambda editor, _: editor.compact(),
    "unwrap": lambda editor, _: editor.unwrap(),
}


def changing(tmp_path: Path) -> Editor:
    """An editor beside a folder with another answer, of which a part is asleep."""
    other = quick_editor(edits=[Edit(OTHER, "Mira Sand"), *EDITS[:2]])
    other.save(tmp_path)
    editor = quick_editor(edits=EDITS)
    editor.remove([1, 2])
    return editor


@pytest.mark.parametrize("use_cache", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_call_of_the_model_ends_before_what_must_be_done_alone(name: str, use_cache: bool, tmp_path: Path):
    editor = changing(tmp_path)
    before = said(editor, use_cache=use_cache)
    order: list[str] = []
    threads: list[threading.Thread] = []

    def change() -> None:
        CHANGES[name](editor, tmp_path)
        order.append("changed")

    def begin() -> None:
        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        threads.append(thread)
        thread.join(0.5)
        order.append("going on")

    assert said(editor, begin, use_cache=use_cache) == before
    threads[0].join(WAIT)
    assert order == ["going on", "changed"]
    if name == "compact":
        assert said(editor, use_cache=use_cache) == before


@pytest.mark.parametrize("name", CHANGES)
def test_many_calls_beside_a_change_are_of_before_or_after(name: str, tmp_path: Path):
    """Those that have to wait are answered by what is there then, another editor's hooks or none."""
    editor = changing(tmp_path)
    ids = ids_of(OTHER)
    right = [(said(editor), logits(editor.model, ids))]
    over = threading.Event()
    found: list[tuple[list[int], torch.Tensor]] = []
    wrong: list[str] = []

    def ask(generate: bool) -> None:
        try:
            while not over.is_set():
                found.append((said(editor) if generate else [], logits(editor.model, ids)))
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(number % 2 == 0,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    CHANGES[name](editor, tmp_path)
    over.set()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    right.append((said(editor), logits(editor.model, ids)))
    for tokens, states in found:
        assert not tokens or tokens in [one for one, _ in right]
        assert any(torch.equal(states, one) for _, one in right)


@pytest.mark.parametrize("name", CHANGES)
def test_in_the_middle_of_its_own_call_a_thread_cannot_wait(name: str, tmp_path: Path):
    editor = changing(tmp_path)
    before = said(editor)
    with pytest.raises(ModelError, match="in this very call"):
        said(editor, lambda: CHANGES[name](editor, tmp_path))
    assert said(editor) == before
    CHANGES[name](editor, tmp_path)  # nobody is held for one who asks


def test_what_lies_over_the_wrapped_model_goes_on_after_it(tmp_path: Path):
    """A function that somebody has put around forward and generate still calls what was there."""
    editor = changing(tmp_path)
    model: Any = editor.model
    with editor.disabled():
        plain = logits(model, ids_of(OTHER))
    for name in ("forward", "generate"):
        inner = getattr(model, name)
        model.__dict__[name] = lambda *args, inner=inner, **kwargs: inner(*args, **kwargs)
    wrapped = logits(model, ids_of(OTHER))
    assert not torch.equal(wrapped, plain)
    CHANGES["rekey"](editor, tmp_path)
    assert said(editor)
    editor.unwrap()
    assert torch.equal(logits(model, ids_of(OTHER)), plain)
    assert said(editor)


@pytest.mark.parametrize("where", ["in another thread", "in this thread"])
def test_edits_that_are_disabled_stay_so_across_a_rekey(where: str, tmp_path: Path):
    editor = changing(tmp_path)
    with editor.disabled():
        plain = logits(editor.model, ids_of(OTHER))
    inside, changed, found = threading.Event(), threading.Event(), []

    def ask() -> None:
        with editor.disabled():
            inside.set()
            assert changed.wait(WAIT)
            found.append(logits(editor.model, ids_of(OTHER)))
        found.append(logits(editor.model, ids_of(OTHER)))

    def change() -> None:
        assert inside.wait(WAIT)
        editor.rekey(editor.config.replace(read_sites="layer_output@0+auto@0"))
        changed.set()

    if where == "in this thread":
        changed.wait = lambda _: not change()  # type: ignore[method-assign]
        ask()
    else:
        other = threading.Thread(target=ask)
        other.start()
        change()
        other.join(WAIT)
    assert torch.equal(found[0], plain)
    assert not torch.equal(found[1], plain)
