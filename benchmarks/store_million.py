"""A store of many edits: how long a change takes, a reader's start, and what the page asks first."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from horen.database import By, Facts, Query, Store
from horen.database.snapshot import Snapshot
from horen.store.state import Saved
from stores import BY, default_book, filled, folder_bytes, prepared, stored

# What an engine does to begin: open the folder that follows the store, and make a codebook of it.
_READER = """
import sys, time
import torch
from pathlib import Path
from horen.database import Store
from horen.database.snapshot import Snapshot
from horen.store.state import Saved
began = time.perf_counter()
with Store.open(sys.argv[1]) as store:
    version = Snapshot(store, sys.argv[2]).follow()
followed = time.perf_counter()
saved = Saved.read(sys.argv[2])
read = time.perf_counter()
codebook = saved.state().codebook()
ended = time.perf_counter()
assert saved.history.count == version
print(followed - began, read - followed, ended - read, ended - began)
"""


def measured(action: Callable[[], Any], rounds: int = 1) -> dict[str, float]:
    """Return median and worst seconds of an action."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return {"median_s": round(statistics.median(took), 4), "worst_s": round(max(took), 4), "rounds": rounds}


def reader(address: str, folder: Path) -> dict[str, float]:
    """Return how long a process takes from opening the store to its codebook, beside importing."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _READER, address, str(folder)], capture_output=True, text=True, check=True
    )
    names = ("folder_s", "read_s", "codebook_s", "all_s")
    return dict(zip(names, (round(float(one), 3) for one in done.stdout.split()), strict=True))


def page(store: Store) -> dict[str, Any]:
    """Return how long the questions of the page's first view take, and some searches."""
    first = {
        "about": store.about,
        "list 50": store.edits.list,
        "count": store.edits.count,
        "count published": lambda: store.edits.count(Query(state="published")),
        "facets": store.edits.facets,
        "drafts": store.drafts.list,
        "sets": store.sets.list,
        "versions": store.versions.list,
    }
    told = {name: measured(action, 3) for name, action in first.items()}
    told["first view, all of these"] = {"median_s": round(sum(one["median_s"] for one in told.values()), 4)}
    later = {
        "list 50 in the middle": lambda: store.edits.list(before=500_000),
        "list by a tag": lambda: store.edits.list(Query(tag="checked")),
        "count by a tag": lambda: store.edits.count(Query(tag="checked")),
        "search, a rare word": lambda: store.edits.list(Query(text="xylophone")),
        "search, a frequent word": lambda: store.edits.list(Query(text="opera")),
        "count, a frequent word": lambda: store.edits.count(Query(text="opera")),
        "ids by a tag": lambda: store.edits.ids(tags=["checked"]),
        "ids without a tag": lambda: store.edits.ids(without_tags=["checked"]),
        "diff with the version before": lambda: store.versions.diff(store.version - 1, store.version),
    }
    return told | {name: measured(action, 3) for name, action in later.items()}


def changes(store: Store) -> dict[str, Any]:
    """Return how long changes take that are acknowledged when they are on the disk."""
    drafts = iter([prepared(store, number) for number in range(33)])
    told = {"publish one": measured(lambda: store.drafts.publish([next(drafts)], BY), 30)}
    ids = iter(range(1, 1000))
    told["remove one"] = measured(lambda: store.edits.remove([next(ids)], BY), 30)
    told["undo"] = measured(lambda: store.versions.undo(BY), 10)
    told["describe one"] = measured(lambda: store.edits.describe([next(ids)], BY, tags=["a"]), 10)
    store.sets.make("some", BY)
    store.edits.describe(range(2_000, 12_000), BY, set="some")
    told["switch a set of 10,000"] = measured(lambda: store.sets.switch("some", not store.sets.list()[0].on, BY), 4)
    told["roll back 100 versions"] = measured(lambda: store.versions.rollback(store.version - 80, BY), 1)
    return told


def tagged(store: Store, edits: int) -> None:
    """Give a tenth of the edits a tag."""
    for first in range(1, edits, 50_000):
        store.edits.describe(range(first, min(first + 50_000, edits), 10), By("ann"), tags=["checked", "old"])


def million(given: argparse.Namespace) -> dict[str, Any]:
    """Measure a store in a file with so many edits."""
    edits, told = given.edits, {}
    with tempfile.TemporaryDirectory(dir=given.place) as place:
        root = Path(place)
        saved = filled(default_book(root / "book"), edits)
        began = time.perf_counter()
        with stored(given.kind, root, saved) as (store, address, _):
            told["taken in_s"] = round(time.perf_counter() - began, 1)
            del saved
            began = time.perf_counter()
            tagged(store, edits)
            told["tagging a tenth_s"] = round(time.perf_counter() - began, 1)
            if given.kind == "sqlite":
                told["bytes of the file"] = (root / "facts.db").stat().st_size
            told["changes"] = changes(store)
            told["page"] = page(store)
            began = time.perf_counter()
            told["reader, from the database"] = reader(address, root / "snapshot")
            told["bytes of the snapshot"] = folder_bytes(root / "snapshot")
            told["reader, with a snapshot"] = [reader(address, root / "snapshot") for _ in range(3)]
            store.drafts.publish([prepared(store, 50)], BY)
            told["reader, a version behind"] = reader(address, root / "snapshot")
            snapshot = Snapshot(store, root / "snapshot")
            snapshot.follow()
            behind = []
            for number in range(60, 65):
                store.drafts.publish([prepared(store, number)], BY)
                behind.append(measured(snapshot.follow)["median_s"])
            told["a follower, one version on"] = {"median_s": statistics.median(behind), "worst_s": max(behind)}
            assert len(Saved.read(snapshot.folder).history) == len(store.edits.ids())
    return told


__all__ = ["Facts", "million"]
