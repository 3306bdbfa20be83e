"""Processes that are killed at any moment: what was acknowledged is there, and everything opens."""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from horen.database import Store
from horen.database.snapshot import Snapshot
from horen.errors import HorenError
from horen.store.state import Saved
from stores import BY, Server, default_book, stored
from support.writing import SETS, write

# A store is made anew after so many rounds, so that looking at all of it stays quick.
_ROUNDS = 25
# A writer is killed after fewer changes than this, and a moment; or when it has made none for so many seconds.
_CHANGES, _PATIENCE = 16, 20.0


@dataclass
class Count:
    """What was found.

    Attributes:
        rounds: how many there were.
        killed: how often what was killed.
        acknowledged: changes that a writer was told of.
        lost: those of them that the store does not have.
        unreadable: what could not be opened or was not whole.
        conflicts: changes that were refused with both sides told.
        errors: changes that a writer was told had failed, by the beginning of the words.
        recovered_s: how long opening, reading and comparing took after each kill.
    """

    rounds: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    lost: list[Any] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    conflicts: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    recovered_s: list[float] = field(default_factory=list)


def child(action: Callable[..., None], *given: Any) -> tuple[int, int]:
    """Start a process; return its id, and what reads its standard output.

    It is a copy of this one, which has imported everything, so it begins at once.
    """
    reads, writes = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writes)
        return pid, reads
    os.close(reads)
    os.dup2(writes, 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    code = 1
    try:
        action(*given)
        sys.stdout.flush()
        code = 0
    finally:
        os._exit(code)


def said(reads: int, before: bytes = b"") -> list[dict[str, Any]]:
    """Return the whole lines that a process has written by its end."""
    with os.fdopen(reads, "rb") as pipe:
        content = before + pipe.read()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def wait_for(reads: int, lines: int) -> bytes:
    """Return what a process has written once it is so many lines, or once a while has passed."""
    content, end = b"", time.monotonic() + _PATIENCE
    while content.count(b"\n") < lines and time.monotonic() < end:
        if select.select([reads], [], [], 0.1)[0]:
            content += os.read(reads, 1 << 16)
    return content


def follow(address: str, folder: str) -> None:
    """Follow a store until the end."""
    with Store.open(address) as store:
        Snapshot(store, folder).keep(lambda version: print(json.dumps({"at": version}), flush=True), lambda: False, 0.1)


def compare(address: str, folder: str, lines: list[dict[str, Any]], whole: bool) -> None:
    """Compare a store with what a writer was told, and with its snapshot; say what is wrong."""
    began = time.perf_counter()
    lost, wrong = [], None
    try:
        with Store.open(address) as store:
            last = store.version
            for line in lines:
                if line["version"] > last:
                    lost.append(line)
                    continue
                made = store.versions.get(line["version"])
                told = {"added": made.added, "removed": made.removed, "restored": made.restored}
                if any(list(ids) != line[name] for name, ids in told.items()) or made.operation != line["operation"]:
                    lost.append(line)
            if whole:
                store.check()
            Snapshot(store, folder).follow()
            history = Saved.read(folder).history
            if {record.id for record in history.active()} != store.edits.ids() or history.count != store.version:
                wrong = "the snapshot has other edits than the store"
    except HorenError as error:
        wrong = str(error)
    print(json.dumps({"lost": lost, "wrong": wrong, "s": time.perf_counter() - began}))


def kill(given: argparse.Namespace) -> dict[str, Any]:
    """Kill writers, followers and servers."""
    torch.set_num_threads(1)  # threads of this process would be missing in the children that are forked of it
    told = {}
    for kind in given.kinds:
        count, chance = Count(), random.Random(7)  # noqa: S311
        with tempfile.TemporaryDirectory(dir=given.place) as place:
            saved = default_book(Path(place) / "book")
            while count.rounds < given.rounds:
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    _series(kind, Path(folder), saved, count, min(_ROUNDS, given.rounds - count.rounds), chance)
                print(kind, count.rounds, count.acknowledged, count.lost, count.unreadable, file=sys.stderr, flush=True)
        times = sorted(count.recovered_s)
        told[kind] = vars(count) | {
            "recovered_s": {"median": round(times[len(times) // 2], 3), "worst": round(times[-1], 3)}
        }
    return told


def _series(kind: str, place: Path, saved: Saved, count: Count, rounds: int, chance: random.Random) -> None:
    with stored(kind, place, saved) as (store, address, server):
        for name in SETS:
            store.sets.make(name, BY)
        store.close()  # nothing of this process's own is in its children
        folder = str(place / "snapshot")
        for number in range(rounds):
            _round(address, folder, count, chance, server, whole=number % 10 == 9)


def _round(
    address: str, folder: str, count: Count, chance: random.Random, server: Server | None, *, whole: bool
) -> None:
    count.rounds += 1
    writer, reads = child(write, address, f"writer {count.rounds}")
    follower, tells = child(follow, address, folder)
    before = wait_for(reads, 1 + chance.randrange(_CHANGES))
    time.sleep(chance.uniform(0.0, 0.1))
    what = "a writer and a follower"
    if server is not None and count.rounds % 3 == 0 and server.kill_backend(chance.randrange(100)):
        what = "a server's process, then these"
        time.sleep(chance.uniform(0.0, 0.5))
    elif server is not None and count.rounds % 7 == 0:
        what = "the server, then these"
        server.kill()
        time.sleep(0.1)
    for pid in chance.sample((writer, follower), 2):
        os.kill(pid, signal.SIGKILL)
        time.sleep(chance.uniform(0.0, 0.05))
    lines = said(reads, before)
    said(tells)
    for pid in (writer, follower):
        os.waitpid(pid, 0)
    if what.startswith("the server"):
        server.start()
    count.killed[what] = count.killed.get(what, 0) + 1
    acknowledged = [line for line in lines if "version" in line]
    count.acknowledged += len(acknowledged)
    count.conflicts += sum("conflict" in line for line in lines)
    for line in lines:
        if "error" in line:
            words = " ".join(line["error"].split()[1:6])
            count.errors[words] = count.errors.get(words, 0) + 1
    _look(address, folder, acknowledged, count, whole=whole)


def _look(address: str, folder: str, lines: list[dict[str, Any]], count: Count, *, whole: bool) -> None:
    pid, reads = child(compare, address, folder, lines, whole)
    (found,) = said(reads) or [{"lost": [], "wrong": "looking at the store ended at once", "s": 0.0}]
    os.waitpid(pid, 0)
    count.lost += found["lost"]
    if found["wrong"] is not None:
        # A server that has been killed needs a moment to come back; then it is looked at once more.
        if "cannot be reached" in found["wrong"] and found["s"] < 60:
            time.sleep(0.5)
            _look(address, folder, lines, count, whole=whole)
            return
        count.unreadable.append(found["wrong"])
    count.recovered_s.append(found["s"])
