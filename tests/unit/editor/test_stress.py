"""Everything at once: threads on one editor, and processes on one folder. HOREN_STRESS says how many operations.

HOREN_STRESS=2000 pytest -s tests/unit/editor/test_stress.py
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from horen import Edit, Editor, HorenConfig, StoreError
from horen.store.state import Saved, remove_from_folder
from support.editors import EDITED, OTHER, QUICK, REPHRASED, hooks_on, ids_of, padded, quick_editor
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

OPERATIONS = int(os.environ.get("HOREN_STRESS", "120"))
WAIT = 120.0 + OPERATIONS
# These come and go in one operation, so whoever sees one sees both.
PAIR = [Edit("Daniel and his banana boats live in", "Oslo", ("Daniel lives in",)), Edit("Who wrote Hamlet?", "Paris")]
ASKED = (EDITED, REPHRASED, OTHER, PAIR[0].prompt, PAIR[1].prompt)


def loaded(folder: Path) -> Editor:
    return Editor.load(folder, tiny_model(), tiny_tokenizer("chatml"))


class Scene:
    """An editor with the answers that are right: those with the pair of edits and those without it."""

    def __init__(self, folder: Path) -> None:
        self.editor, self.folder = quick_editor(similar_threshold=0.9), folder
        self.inputs = padded([ids_of(text) for text in ASKED], left=True)
        self.right = [self.told()]
        self.editor.edit(PAIR, on_similar="ignore")
        self.right.append(self.told())
        self.editor.undo()
        self.counts: Counter[str] = Counter()
        self.wrong: list[object] = []
        assert not torch.equal(self.right[0][0], self.right[1][0])

    def told(self) -> tuple[Tensor, list[str], list[tuple[str | None, bool]]]:
        return self.states(self.editor), self.generated(), self.explained()

    def states(self, editor: Editor) -> Tensor:
        with torch.no_grad():
            found: Tensor = editor.model(**self.inputs).logits
        return found

    def generated(self) -> list[str]:
        return self.editor.generate(list(ASKED), 4)

    def explained(self) -> list[tuple[str | None, bool]]:
        return [(one.prompt, one.fired) for one in self.editor.explain(list(ASKED), nearest=2)]

    def ask(self) -> bool:
        found = self.states(self.editor)
        return any(torch.equal(found, right[0]) for right in self.right)

    def uncached(self) -> bool:
        """Without a cache each step reads the prompt anew; its edit is settled at the first."""
        found = self.editor.generate(list(ASKED), 4, use_cache=False)
        return any(found == right[1] for right in self.right)

    def generate(self) -> bool:
        found = self.generated()
        return any(found == right[1] for right in self.right)

    def explain(self) -> bool:
        found = self.explained()
        return any(found == right[2] for right in self.right)

    def similar(self) -> bool:
        # The prompt is stored word for word, hence settled without a look; the other is like the edit that stays.
        found = self.editor.similar([Edit(EDITED, "Oslo"), Edit(EDITED + ":", "Oslo")])
        return found[0] is None and (found[1] is None or found[1].id == 1)

    def change(self) -> bool:
        """An edit, its undo or removal, and the undo of that: every one changes what the others are told."""
        self.editor.edit(PAIR, on_similar="ignore")
        if self.counts["change"] % 2:
            self.editor.undo()
        else:
            self.editor.remove([record.id for record in self.editor.edits() if record.id != 1])
            self.editor.undo()
            self.editor.undo()
        return [record.id for record in self.editor.edits()] == [1]

    def save(self) -> bool:
        self.editor.save(self.folder)
        again = loaded(self.folder)
        found = self.states(again)
        return any(torch.equal(found, right[0]) for right in self.right)


def run(scene: Scene, action: Callable[[], bool], over: Callable[[], bool]) -> None:
    name = action.__name__
    while not over():
        try:
            if not action():
                scene.wrong.append(name)
        except BaseException as error:
            scene.wrong.append((name, repr(error)))
        scene.counts[name] += 1


def test_threads_on_one_editor(tmp_path: Path):
    scene = Scene(tmp_path / "facts")
    hooks, limit = hooks_on(scene.editor.model), time.monotonic() + WAIT
    actions = (scene.ask, scene.ask, scene.generate, scene.uncached, scene.explain, scene.similar, scene.change)
    threads = [
        threading.Thread(
            target=run,
            args=(scene, action, lambda: sum(scene.counts.values()) >= OPERATIONS or time.monotonic() > limit),
            daemon=True,
        )
        for action in (*actions, scene.save)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT + 60)
    sys.stdout.write(f"\nthreads: {dict(scene.counts)}, wrong: {len(scene.wrong)}")
    assert not any(thread.is_alive() for thread in threads)
    assert scene.wrong == []
    assert scene.counts.keys() == {action.__name__ for action in (*actions, scene.save)}
    assert hooks_on(scene.editor.model) == hooks
    assert scene.ask()


def write(folder: Path, name: str, count: int, refused: multiprocessing.sharedctypes.Synchronized[int]) -> None:
    """Write edits and save each; after a refusal load again. Every third goes again, by the way that commands take."""
    torch.set_num_threads(1)
    editor = loaded(folder)
    for number in range(count):
        while True:
            (receipt,) = editor.edit([Edit(f"{name} {number} lives in", "Oslo")])
            try:
                editor.save(folder)
                break
            except StoreError as error:
                if "has changed since" not in str(error):
                    raise
                with refused.get_lock():
                    refused.value += 1
                editor.restore(folder)
        if number % 3 == 2:
            remove_from_folder(folder, [receipt.id])
            editor.restore(folder)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starts processes by fork")
def test_processes_on_one_folder(tmp_path: Path):
    folder, count = tmp_path / "facts", max(4, OPERATIONS // 8)
    Editor(tiny_model(), tiny_tokenizer("chatml"), HorenConfig(**QUICK)).save(folder)
    fork = multiprocessing.get_context("fork")
    refused = fork.Value("i", 0)
    names = ("Hamlet", "Daniel")
    writers = [fork.Process(target=write, args=(folder, name, count, refused)) for name in names]
    for writer in writers:
        writer.start()
    reads, last = 0, 0
    while any(writer.is_alive() for writer in writers):
        saved = Saved.read(folder)
        assert len(saved.folder.tensors["keys"]) >= sum(len(record.entries) for record in saved.history.active())
        assert len(saved.history.operations) >= last
        last, reads = len(saved.history.operations), reads + 1
        time.sleep(0.001)
    for writer in writers:
        writer.join()
    history = Saved.read(folder).history
    written = [record.prompt for operation in history.operations for record in operation.added]
    sys.stdout.write(f"\nprocesses: {2 * count} edits, {refused.value} saves refused, {reads} reads")
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(written) == sorted(f"{name} {number} lives in" for name in names for number in range(count))
    kept = {f"{name} {number} lives in" for name in names for number in range(count) if number % 3 != 2}
    assert {record.prompt for record in history.active()} == kept
    assert len(loaded(folder).edits()) == len(kept)
