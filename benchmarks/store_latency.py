"""How soon a change is seen: from the acknowledgement in one process to the codebook that another has read."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from horen.database import Store
from horen.database.snapshot import Snapshot
from horen.store.state import Saved
from store_kills import child
from stores import BY, default_book, filled, prepared, stored

_SAMPLES = 30


def follow(address: str, folder: str) -> None:
    """Follow a store as an engine does, and say when each version has been read."""
    with Store.open(address) as store:

        def told(version: int) -> None:
            saved = Saved.read(folder)
            assert saved.history.count >= version
            print(json.dumps([saved.history.count, time.monotonic()]), flush=True)

        Snapshot(store, folder).keep(told, lambda: False)


def latency(given: argparse.Namespace) -> dict[str, Any]:
    """Measure with so many edits in each kind of database."""
    torch.set_num_threads(1)  # threads of this process would be missing in the child that is forked of it
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=given.place) as place:
        book = default_book(Path(place) / "book")
        for kind in given.kinds:
            for edits in given.edits:
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    told[f"{kind}, {edits:,} edits"] = _measured(kind, Path(folder), filled(book, edits))
                    print(kind, edits, told[f"{kind}, {edits:,} edits"], flush=True)
    return told


def _measured(kind: str, place: Path, saved: Saved) -> dict[str, Any]:
    with stored(kind, place, saved) as (store, address, _):
        store.close()
        pid, reads = child(follow, address, str(place / "snapshot"))
        try:
            with os.fdopen(reads) as lines, Store.open(address) as mine:
                lines.readline()  # the first, from the beginning
                return _samples(mine, lines)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _samples(store: Store, lines: Any) -> dict[str, Any]:
    drafts = [prepared(store, number) for number in range(_SAMPLES)]
    asked, acknowledged = [], []
    for draft in drafts:
        began = time.monotonic()
        made = store.drafts.publish([draft], BY)
        done = time.monotonic()
        version, at = json.loads(lines.readline())
        assert version == made.number
        asked.append(at - began)
        acknowledged.append(at - done)
        time.sleep(0.1)
    return {
        name: {"median_s": round(statistics.median(some), 4), "worst_s": round(max(some), 4), "samples": len(some)}
        for name, some in (("since it was asked for", asked), ("since its acknowledgement", acknowledged))
    }
