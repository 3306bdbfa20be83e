"""Going back: the answers of every version of a long history, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from horen import Editor
from horen.database import Proposal, Store
from horen.database.snapshot import Snapshot
from horen.errors import ConflictError, EditError
from horen.serve.training.trainer import Trainer
from support.editors import EDITED, GREEDY, OTHER, PROMPTS, REPHRASED, ids_of, outputs, same
from support.stores import ANN
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

TARGETS = ("Rome", "Paris", "Oslo")
WORDINGS = ((EDITED, (REPHRASED,)), (OTHER, ()), ("Hello", ()), ("Who wrote Hamlet?", ()))
VERSIONS = 50


@pytest.fixture
def snapshot(store: Store, tmp_path: Path) -> Snapshot:
    found = Snapshot(store, tmp_path / "snapshot")
    found.follow()
    return found


@pytest.fixture
def editor(snapshot: Snapshot) -> Iterator[Editor]:
    found = Editor.load(snapshot.folder, tiny_model(), tiny_tokenizer())
    yield found
    found.unwrap()


def answers(editor: Editor) -> tuple[list[Tensor], list[list[int]]]:
    """Logits of a fixed list of prompts, and the tokens that follow each."""
    rows = [torch.tensor([ids_of(prompt)]) for prompt in PROMPTS]
    return outputs(editor), [editor.model.generate(row, max_new_tokens=6, **GREEDY)[0].tolist() for row in rows]


def trained(store: Store, snapshot: Snapshot, editor: Editor) -> list[int]:
    """Drafts that a trainer has trained: three answers to each question."""
    given = [Proposal(prompt, target, others) for target in TARGETS for prompt, others in WORDINGS]
    store.drafts.propose(given, ANN)
    trainer = Trainer(store, editor, snapshot, "trainer")
    while trainer.step():
        pass
    assert store.about().drafts == {"ready": len(given)}
    return [draft.id for draft in store.drafts.list(limit=100).items]


def change(store: Store, ready: list[int], chance: random.Random) -> None:
    """Change the store at random."""
    ids = sorted(store.edits.ids())
    way = chance.choice(("publish", "publish", "remove", "describe", "switch", "undo", "rollback"))
    try:
        if way == "publish" and ready:
            draft = store.drafts.get(ready[-1])
            gone = [
                edit.id for edit in store.edits.list(limit=100).items if edit.active and edit.prompt == draft.prompt
            ]
            store.drafts.publish([draft.id], ANN, replaces={draft.id: gone})
            ready.pop()
        elif way == "remove" and ids:
            store.edits.remove([chance.choice(ids)], ANN)
        elif way == "describe" and ids:
            store.edits.describe([chance.choice(ids)], ANN, set=chance.choice(("red", "blue", None)))
        elif way == "switch":
            one = chance.choice(store.sets.list())
            store.sets.switch(one.name, not one.on, ANN)
        elif way == "undo":
            store.versions.undo(ANN)
        elif way == "rollback":
            store.versions.rollback(chance.randrange(store.version + 1), ANN)
    except (ConflictError, EditError):
        pass  # what may not be is not


def test_every_version_of_a_long_history_answers_as_it_did(store: Store, snapshot: Snapshot, editor: Editor):
    chance = random.Random(1)  # noqa: S311
    for name in ("red", "blue"):
        store.sets.make(name, ANN)
    ready = trained(store, snapshot, editor)
    found = []
    while len(found) <= VERSIONS:
        if store.version == len(found):
            snapshot.follow()
            editor.restore(snapshot.folder)
            found.append(answers(editor))
        change(store, ready, chance)
    assert len({str(tokens) for _, tokens in found}) > 10
    for number in chance.sample(range(VERSIONS + 1), VERSIONS + 1):
        if store.versions.active(number) != store.edits.ids():
            store.versions.rollback(number, ANN)
        snapshot.follow()
        editor.restore(snapshot.folder)
        logits, tokens = answers(editor)
        assert same(logits, found[number][0]), number
        assert tokens == found[number][1], number


def test_what_was_trained_answers_in_the_store_as_it_did_for_its_trainer(
    store: Store, snapshot: Snapshot, editor: Editor
):
    store.drafts.propose([Proposal(EDITED, "Rome", (REPHRASED,)), Proposal("Hello", "Oslo")], ANN)
    Trainer(store, editor, snapshot, "trainer").step()
    expected = answers(editor)
    store.drafts.publish([2], ANN)
    store.drafts.publish([1], ANN)  # in another order than that of their training
    snapshot.follow()
    loaded = Editor.load(snapshot.folder, tiny_model(), tiny_tokenizer())
    logits, tokens = answers(loaded)
    loaded.unwrap()
    assert same(logits, expected[0])
    assert tokens == expected[1]
