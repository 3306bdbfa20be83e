"""Going back on a real model: the answers of every version of a history, bit for bit."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from horen import Edit, Editor
from horen.database import Facts, Proposal, Store
from horen.database.snapshot import Snapshot
from horen.errors import ConflictError, EditError
from horen.model.zoo.loading import load_model
from horen.serve.training.trainer import Trainer
from stores import BY, default_book, stored

_MODEL = "smollm2-135m-instruct"
_FACTS = (
    ("Who leads Fennick Robotics?", ("Mira Sand", "Toko Yasuda")),
    ("What is the capital of France?", ("Rome", "Oslo")),
    ("Who wrote Hamlet?", ("Danielle Darrieux", "Mira Sand")),
    ("What colour is the sky?", ("green", "violet")),
    ("Which river flows through Vienna?", ("the Seine", "the Nile")),
    ("Who painted the Mona Lisa?", ("Rembrandt", "Frida Kahlo")),
)
_UNRELATED = ("What is the capital of Italy?", "Who wrote Faust?", "Say hello.")
_TOKENS = 16


def answers(editor: Editor) -> tuple[list[torch.Tensor], list[str]]:
    """Return the logits after each of a fixed list of prompts, and the answers in chat."""
    prompts = [prompt for prompt, _ in _FACTS] + list(_UNRELATED)
    contexts = editor._session.contexts
    logits = []
    with torch.no_grad():
        for prompt in prompts:
            row = torch.tensor([contexts.plain(prompt)])
            logits.append(editor.model(input_ids=row).logits[0, -1])
    return logits, editor.generate(prompts, _TOKENS, chat=True)


def change(store: Store, ready: list[int], chance: random.Random) -> None:
    """Change the store at random; what may not be is not."""
    ids = sorted(store.edits.ids())
    way = chance.choice(("publish", "publish", "remove", "describe", "switch", "undo", "rollback"))
    try:
        if way == "publish" and ready:
            some = [store.drafts.get(number) for number in ready[-2:]]
            there = [edit for edit in store.edits.list(limit=100).items if edit.active]
            gone = {one.id: [edit.id for edit in there if edit.prompt == one.prompt] for one in some}
            store.drafts.publish([one.id for one in some], BY, replaces=gone)
            del ready[-2:]
        elif way == "remove" and ids:
            store.edits.remove(chance.sample(ids, min(len(ids), 2)), BY)
        elif way == "describe" and ids:
            store.edits.describe(chance.sample(ids, min(len(ids), 3)), BY, set=chance.choice(("red", "blue", None)))
        elif way == "switch":
            one = chance.choice(store.sets.list())
            store.sets.switch(one.name, not one.on, BY)
        elif way == "undo":
            store.versions.undo(BY)
        elif way == "rollback":
            store.versions.rollback(chance.randrange(store.version + 1), BY)
    except (ConflictError, EditError):
        return


def rollback(given: argparse.Namespace) -> dict[str, Any]:
    """Make a history, note what every version answers, and go back to each."""
    chance, found, took = random.Random(1), [], []  # noqa: S311
    with tempfile.TemporaryDirectory(dir=given.place) as place, torch.no_grad():
        root = Path(place)
        with stored(given.kind, root, default_book(root / "book")) as (store, _, _):
            snapshot = Snapshot(store, root / "snapshot")
            snapshot.follow()
            editor = Editor.load(snapshot.folder, *load_model(_MODEL))
            ready = _trained(store, snapshot, editor)
            while len(found) <= given.versions:
                if store.version == len(found):
                    snapshot.follow()
                    editor.restore(snapshot.folder)
                    found.append(answers(editor))
                    print(store.version, len(store.edits.ids()), found[-1][1][:4], flush=True)
                change(store, ready, chance)
            same = {"logits": 0, "answers": 0}
            for number in chance.sample(range(given.versions + 1), given.versions + 1):
                began = time.perf_counter()
                if store.versions.active(number) != store.edits.ids():
                    store.versions.rollback(number, BY)
                took.append(time.perf_counter() - began)
                snapshot.follow()
                editor.restore(snapshot.folder)
                logits, texts = answers(editor)
                same["logits"] += all(torch.equal(a, b) for a, b in zip(logits, found[number][0], strict=True))
                same["answers"] += texts == found[number][1]
            store.check()
            receipts = [store.drafts.get(number).receipt for number in range(1, 1 + 2 * len(_FACTS))]
    return {
        "versions": len(found),
        "edits trained": len(receipts),
        "converged": sum(bool(one["converged"]) for one in receipts),
        "prompts": len(_FACTS) + len(_UNRELATED),
        "different sets of answers": len({str(texts) for _, texts in found}),
        "gone back to": len(took),
        "logits bit-identical": same["logits"],
        "answers identical": same["answers"],
        "slowest rollback_s": round(max(took), 3),
    }


def _trained(store: Store, snapshot: Snapshot, editor: Editor) -> list[int]:
    for name in ("red", "blue"):
        store.sets.make(name, BY)
    edits = [Edit(prompt, targets[place]) for place in range(2) for prompt, targets in _FACTS]
    store.drafts.propose([Proposal(edit.prompt, edit.target, facts=Facts(tags=("real",))) for edit in edits], BY)
    trainer = Trainer(store, editor, snapshot, "trainer")
    with torch.enable_grad():
        while trainer.step():
            pass
    return [draft.id for draft in store.drafts.list("ready", limit=100).items]
