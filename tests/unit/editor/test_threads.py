"""Many threads on one editor: each asks as if it were alone, whatever another one does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from horen import Edit, Editor
from support.arithmetics import MACHINES, fastest_in
from support.editors import EDITED, OTHER, PROMPTS, REPHRASED, hooks_on, ids_of, logits, quick_editor
from support.tiny_models import FAMILIES

WAIT = 60.0
# An arithmetic changes the weights' format: matrices, transposed ones, those of a window's layers and of experts.
OF_A_KIND = ("llama", "gpt2", "gemma3", "mixtral")


class Others:
    """Threads that do one thing again and again."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.failures: list[object] = []
        self.over = threading.Event()

    def again(self, name: str, action: Callable[[], object]) -> None:
        """Do ``action`` until it is over; what it returns, other than None, counts as a failure."""
        self.counts[name] = 0
        while not self.over.is_set():
            try:
                found = action()
            except BaseException as error:
                found = repr(error)
            if found is not None:
                self.failures.append((name, found))
            self.counts[name] += 1
            time.sleep(0)


@contextmanager
def beside(*actions: Callable[[], object]) -> Iterator[Others]:
    """Run each action in a thread of its own as long as the block does, and at least five times."""
    others = Others()
    names = [f"{getattr(action, '__name__', 'action')} {number}" for number, action in enumerate(actions)]
    threads = [
        threading.Thread(target=others.again, args=pair, daemon=True) for pair in zip(names, actions, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield others
        limit = time.monotonic() + WAIT
        while any(others.counts.get(name, 0) < 5 for name in names) and time.monotonic() < limit:
            time.sleep(0.01)
    finally:
        others.over.set()
        for thread in threads:
            thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)
    assert others.failures == []


def asks(editor: Editor) -> Callable[[], object]:
    """An action that generates and compares logits with those of before."""
    rows = {text: ids_of(text) for text in PROMPTS}
    expected = {text: logits(editor.model, row) for text, row in rows.items()}
    answers = editor.generate(list(PROMPTS), 3)

    def ask() -> object:
        for text, row in rows.items():
            found = logits(editor.model, row)
            if not torch.equal(found, expected[text]):
                return text
        found_answers = editor.generate(list(PROMPTS), 3)
        return None if found_answers == answers else found_answers

    return ask


@pytest.mark.parametrize(
    ("machine", "family"),
    [(machine, family) for family in FAMILIES for machine in MACHINES if machine == "model" or family in OF_A_KIND],
)
def test_who_asks_while_another_thread_trains_gets_what_is_stored(
    family: str, machine: str, monkeypatch: pytest.MonkeyPatch
):
    """Each family runs another way to the layers that training leaves out and to the attention it replaces."""
    fastest_in(machine, monkeypatch)
    editor = quick_editor(family, max_steps=12, precision="auto")
    with beside(asks(editor)):
        for number in range(3):
            # Nobody asks this, so what the others are told stays.
            editor.edit(Edit(f"{number} banana boats live in", "Oslo"))
    assert hooks_on(editor.model) == hooks_on(quick_editor(family).model)


def seen(editor: Editor) -> object:
    """What look-ups tell, without ids, which every edit has anew."""
    # Removed keys are multiplied too, which may round otherwise.
    explained = [
        (one.prompt, round(one.score or 0, 4), one.fired, [(near.prompt, round(near.score, 4)) for near in one.nearest])
        for one in editor.explain(list(PROMPTS), nearest=2)
    ]
    similar = editor.similar(Edit(REPHRASED + " the", "Oslo"))[0]
    return explained, similar and round(similar.score, 4)


def checked(editor: Editor) -> object:
    """What a check-up tells, without ids."""
    found = editor.doctor()
    return found.edits, [(one.prompt, one.kind, [round(r.score, 4) for r in one.readings]) for one in found.findings]


@pytest.mark.parametrize("sites", ["auto@0", "layer_output@0+auto@0"])
def test_who_looks_up_sees_a_change_whole_or_not_at_all(sites: str):
    editor = quick_editor(read_sites=sites, similar_threshold=0.5)
    comes = Edit("Daniel and his banana boats live in", "Oslo", ("Daniel lives in",))
    without = seen(editor), checked(editor)
    editor.edit(comes)
    within = seen(editor), checked(editor)
    editor.undo()
    assert without[0] != within[0]
    assert without[1] != within[1]

    def look() -> object:
        found = seen(editor)
        return None if found in (without[0], within[0]) else found

    def check() -> object:
        found = checked(editor)
        return None if found in (without[1], within[1]) else found

    with beside(asks(editor), look, look, check):
        for _ in range(3):
            editor.edit(comes)
            editor.remove(editor.edits()[-1].id)


def test_what_is_trained_while_others_ask_is_as_if_alone():
    """Keys and values of edits do not depend on who asks meanwhile."""
    alone, watched = quick_editor(max_steps=12, edits=[]), quick_editor(max_steps=12, edits=[])
    edits = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")]
    alone.edit(edits)

    def run() -> object:
        watched.generate("Hello there", 3)
        watched.explain("Hello there")
        return None

    with beside(run, run):
        watched.edit(edits)
    one, other = alone._session.codebook(), watched._session.codebook()
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.keys, other.keys)


def test_two_threads_that_write_take_turns():
    editor = quick_editor(edits=[])

    def write(name: str) -> None:
        for number in range(4):
            editor.edit(Edit(f"{name} {number} lives in", "Oslo"))

    threads = [threading.Thread(target=write, args=(name,)) for name in ("Hamlet", "Daniel")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    records = editor.edits()
    assert [record.id for record in records] == list(range(1, 9))
    entries = [entry for record in records for entry in record.entries]
    assert sorted(entries) == list(range(len(entries)))
    assert {record.prompt for record in records} == {
        f"{n} {i} lives in" for n in ("Hamlet", "Daniel") for i in range(4)
    }


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_call_with_gradients_waits_until_weights_may_have_them(family: str):
    """Weights take no gradient while values are trained, which a caller elsewhere must not come to see."""
    editor = quick_editor(family, max_steps=3)
    ids = torch.tensor([ids_of(OTHER)])

    def train() -> object:
        editor.model(input_ids=ids).logits.square().sum().backward()
        missing = [name for name, p in editor.model.named_parameters() if p.grad is None]
        editor.model.zero_grad()
        return missing or None

    found: list[object] = []
    threads: list[threading.Thread] = []

    def progress(_done: int, _all: int) -> None:
        thread = threading.Thread(target=lambda: found.append(train()))
        thread.start()
        threads.append(thread)
        time.sleep(0.2)

    editor.edit(Edit("Hello", "Oslo"), progress=progress)
    for thread in threads:
        thread.join(WAIT)
    assert found == [None] * len(threads)
    assert threads


def test_the_frozen_model_is_put_back_by_the_last_thread():
    from horen.model.partial.frozen import frozen  # noqa: PLC0415

    model: Any = quick_editor().model.train()
    first, second, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def other() -> None:
        with frozen(model):
            first.set()
            second.wait(WAIT)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    first.wait(WAIT)
    with frozen(model):
        second.set()
        done.wait(WAIT)
        thread.join(WAIT)
        seen = [module.training for module in model.modules()] + [p.requires_grad for p in model.parameters()]
    assert not any(seen)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
