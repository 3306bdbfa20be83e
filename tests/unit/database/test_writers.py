"""Many at once: processes that write to one store, and threads that share one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from horen.database import Proposal, Store
from horen.database.snapshot import Snapshot
from horen.errors import ConflictError
from horen.store.state import Saved
from support.stores import ANN, publish, train
from support.writing import SETS

TESTS = Path(__file__).parents[2]


def test_four_processes_lose_nothing_and_share_no_number(either: Store, tmp_path: Path):
    for name in SETS:
        either.sets.make(name, ANN)
    address = either.database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "support.writing", address]
    writers = [
        subprocess.Popen([*command, f"writer {n}", "25"], stdout=subprocess.PIPE, text=True, cwd=TESTS)
        for n in range(4)
    ]
    lines = [json.loads(line) for writer in writers for line in writer.communicate(timeout=300)[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert not [line for line in lines if "error" in line]
    told = {line["version"]: line for line in lines if "version" in line}
    assert sorted(told) == list(range(1, either.version + 1))  # each once, without a gap
    assert sum("version" in line for line in lines) == len(told)
    for line in lines:
        if "conflict" in line:
            ours, theirs = line["conflict"]
            assert ours.startswith("Town ")
            assert theirs.startswith("Town ")
    added = []
    for number, line in sorted(told.items()):
        made = either.versions.get(number)
        assert (list(made.added), list(made.removed), list(made.restored)) == (
            *(line["added"], line["removed"], line["restored"]),
        )
        added += made.added
    assert added == list(range(1, len(added) + 1))
    either.check()
    Snapshot(either, tmp_path / "snapshot").follow()
    assert {record.id for record in Saved.read(tmp_path / "snapshot").history.active()} == either.edits.ids()


def test_of_two_that_contradict_each_other_one_is_told(either: Store):
    """Both looked before either wrote."""
    barrier, found = threading.Barrier(4), []

    def write(number: int) -> None:
        barrier.wait()
        try:
            found.append(publish_one(either, f"Town {number}"))
        except ConflictError as error:
            found.append(error)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    errors = [one for one in found if isinstance(one, ConflictError)]
    assert len(errors) == 3
    (edit,) = either.edits.list().items
    for error in errors:
        (clash,) = error.clashes
        assert clash.ours == edit
        assert clash.theirs.target != edit.target
    assert either.version == 1


_TURN = threading.Lock()


def publish_one(store: Store, target: str) -> int:
    with _TURN:  # a trainer is one at a time
        (draft,) = store.drafts.propose([Proposal("The capital of France is", target)], ANN)
        train(store)
    return store.drafts.publish([draft.id], ANN).number


def test_threads_share_a_store(either: Store):
    publish(either, {f"prompt {n}": "Oslo" for n in range(8)})

    def work(number: int) -> None:
        either.edits.describe([number], ANN, tags=[f"tag {number}"])
        assert either.edits.get(number).facts.tags == (f"tag {number}",)
        assert len(either.edits.list().items) == 8

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    assert either.version == 9
    assert [version.number for version in either.versions.list().items] == list(range(9, 0, -1))
