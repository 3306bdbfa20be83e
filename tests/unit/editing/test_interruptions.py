from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import horen
from horen import Edit, Editor
from horen.editing import write as writer
from horen.memory import Codebook
from horen.model.adapter import Adapter
from horen.model.partial.tail import Tail
from horen.store.history import History
from support.editors import EDITED, OTHER, REPHRASED, checksums, hooks_on, ids_of, logits, quick_editor, same_weights

# Generators of which no more is taken than is needed.
UNFINISHED = ("<genexpr>", "attempts")
PACKAGE = str(Path(horen.__file__).parent)
PROMPTS = (EDITED, OTHER, REPHRASED, "Who wrote Hamlet?")
NEW = [Edit(OTHER, "Paris"), Edit("Hello", "Oslo", ("It is blue",)), Edit(EDITED, "Mira Sand")]


class Snapshot:
    """All that an operation on an editor may change."""

    def __init__(self, editor: Editor) -> None:
        self.outputs = [logits(editor.model, ids_of(text)) for text in PROMPTS]
        self.edits, self.history = editor.edits(), editor.history()
        codebook = editor._session.codebook()
        self.counts = (len(codebook), codebook.entries, len(codebook.values))
        self.modes = [module.training for module in editor.model.modules()]
        self.learnable = [parameter.requires_grad for parameter in editor.model.parameters()]
        self.hooks, self.weights = hooks_on(editor.model), checksums(editor.model)

    def holds(self, editor: Editor) -> None:
        now = Snapshot(editor)
        assert now.edits == self.edits
        assert now.history == self.history
        assert now.counts == self.counts
        assert now.modes == self.modes
        assert now.learnable == self.learnable
        assert now.hooks == self.hooks
        assert same_weights(editor.model, self.weights)
        assert all(torch.equal(one, two) for one, two in zip(now.outputs, self.outputs, strict=True))
        assert all(parameter.grad is None for parameter in editor.model.parameters())


def failing(error: BaseException, after: int) -> Callable[..., Any]:
    """A function that fails at its n-th call."""
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        if len(calls) > after:
            raise error

    return fail


ERRORS = [KeyboardInterrupt(), RuntimeError("out of memory"), SystemExit(1)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", [0, 1])
def test_progress_that_fails(error: BaseException, after: int):
    editor = quick_editor(batch_tokens=1)
    editor.model.train()
    before = Snapshot(editor)
    with pytest.raises(type(error)):
        editor.edit(NEW, "supersede", progress=failing(error, after))
    before.holds(editor)
    editor.edit(NEW, "supersede")
    assert [record.id for record in editor.edits()] == [2, 3, 4]


STEPS: list[tuple[Any, str]] = [
    (writer, "train_values"),
    (Tail, "log_probabilities"),
    (Tail, "__init__"),
    (Adapter, "features"),
    (Codebook, "nearest"),
    (Codebook, "add_value"),
    (Codebook, "add_entries"),
    (Codebook, "set_awake"),
    (History, "record"),
]


@pytest.mark.parametrize(("owner", "attribute"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("after", [0, 1])
def test_a_step_that_fails(owner: Any, attribute: str, after: int, monkeypatch: pytest.MonkeyPatch):
    editor = quick_editor(batch_tokens=1)
    before = Snapshot(editor)
    original, count = getattr(owner, attribute), []

    def step(*args: Any, **kwargs: Any) -> Any:
        count.append(1)
        if len(count) == after + 1:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, step)
        try:
            editor.edit(NEW, "supersede")
        except KeyboardInterrupt:
            interrupted = True
        else:
            interrupted = False
    if not interrupted:  # the step was done fewer times than that
        assert len(editor.edits()) == 3
        return
    before.holds(editor)
    editor.edit(NEW, "supersede")
    assert [record.id for record in editor.edits()] == [2, 3, 4]


def entered(frame: FrameType, event: str) -> bool:
    """Whether a function of the package begins; closing an unfinished generator looks alike, and swallows errors."""
    code = frame.f_code
    return event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name not in UNFINISHED


def interrupted_at(number: int, action: Callable[[], Any]) -> bool:
    """Interrupt an action at the n-th time that a function of the package is entered; whether it was."""
    count = 0

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        if entered(frame, event):
            count += 1
            if count == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def count_of_calls(action: Callable[[], Any]) -> int:
    count = 0

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += entered(frame, event)

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


ACTIONS: dict[str, Callable[[Editor], Any]] = {
    "edit": lambda editor: editor.edit(NEW[:2]),
    "edit that replaces": lambda editor: editor.edit(NEW, "supersede"),
    "supersede": lambda editor: editor.supersede(1, "Oslo"),
    "remove": lambda editor: editor.remove(1),
    "undo": lambda editor: editor.undo(),
    "rekey": lambda editor: editor.rekey(editor.config.replace(read_sites="layer_output@0+auto@0")),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_an_interruption_anywhere_leaves_all_or_nothing(name: str):
    action = ACTIONS[name]
    done = quick_editor()
    Snapshot(done)  # as the others are looked at first, which makes what is made when it is first asked for
    calls = count_of_calls(lambda: action(done))
    after = Snapshot(done)
    # Every call of a short action, some thirty of a long one, its last steps all among them.
    numbers = sorted({*range(1, calls + 1, max(1, calls // 20)), *range(max(1, calls - 12), calls + 1)})
    for number in numbers:
        editor = quick_editor()
        before = Snapshot(editor)
        assert interrupted_at(number, lambda editor=editor: action(editor))
        if len(editor.history()) == len(before.history):
            before.holds(editor)
        else:
            assert [record.prompt for record in editor.edits()] == [record.prompt for record in after.edits]
            now = Snapshot(editor)
            assert now.counts == after.counts
            assert all(torch.equal(one, two) for one, two in zip(now.outputs, after.outputs, strict=True))


def test_an_interrupted_compaction_is_made_or_not():
    editor = quick_editor()
    editor.edit(Edit(OTHER, "Paris"))
    editor.remove(1)
    before = Snapshot(editor)
    number = 1
    # It may also come when all is done but the telling of it.
    while interrupted_at(number, editor.compact) and len(editor.history()) == len(before.history):
        before.holds(editor)
        number += 1
    after = Snapshot(editor)
    assert number > 10
    assert after.counts == (1, 1, 1)
    assert all(torch.equal(one, two) for one, two in zip(after.outputs, before.outputs, strict=True))


def test_a_key_space_that_was_not_finished_is_fitted_anew():
    expected = quick_editor(key_space="whitened", threshold=0.8)
    editor = quick_editor(key_space="whitened", threshold=0.8, edits=[])
    hooks = hooks_on(editor.model)
    for number in (5, 500, 5000):
        assert interrupted_at(number, lambda: editor.edit(Edit(EDITED, "Rome", (REPHRASED,))))
        assert editor.edits() == []
        assert hooks_on(editor.model) == hooks
    editor.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    assert torch.equal(logits(editor.model, ids_of(EDITED)), logits(expected.model, ids_of(EDITED)))


def test_an_interrupted_answer_leaves_the_editor_whole():
    editor = quick_editor()
    before = Snapshot(editor)
    for number in (3, 20, 60):
        interrupted_at(number, lambda: editor.generate([EDITED, OTHER], 4))
        interrupted_at(number, lambda: editor.explain([EDITED, OTHER]))
        before.holds(editor)
    editor.edit(Edit(OTHER, "Paris"))
    assert editor.explain(OTHER).fired
