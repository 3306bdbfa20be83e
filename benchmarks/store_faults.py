"""What goes wrong around a store: full disks, disks that may only be read, clocks, damage, databases that are away."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from horen.database import Store
from horen.database.snapshot import Snapshot
from horen.errors import HorenError, StoreError
from horen.store.state import Saved
from store_kills import child, said
from stores import BY, Server, default_book, filled, postgres, prepared, stored
from support.writing import SETS, write

_AWAY = 30.0
_NOBODY = 65534


@contextmanager
def small(size: str) -> Iterator[Path]:
    """Mount a small disk in memory."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", place], check=True)  # noqa: S603, S607
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", "-l", place], check=True)  # noqa: S603, S607


def fill(disk: Path, left: int) -> Path:
    """Fill a disk but for so many bytes; return the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        while shutil.disk_usage(disk).free > left:
            file.write(bytes(min(1 << 16, shutil.disk_usage(disk).free - left)))
            file.flush()
    return ballast


def refused(change: Callable[[], Any], most: int = 2000) -> tuple[int, str | None]:
    """Change until that is refused; return how often it went well, and the words of the refusal."""
    for number in range(most):
        try:
            change()
        except StoreError as error:
            return number, str(error).split(": ", 1)[-1]
    return most, None


def full_disk(saved: Saved) -> dict[str, Any]:
    """Fill the disk under a store in a file, and under a snapshot."""
    with small("24m") as disk, Store.create(disk / "facts.db", saved, BY) as store:
        acknowledged: list[int] = []
        numbers = iter(range(10**6))

        def publish() -> None:
            acknowledged.append(store.drafts.publish([prepared(store, next(numbers))], BY).number)

        for _ in range(5):
            publish()
        ballast = fill(disk, 200_000)
        went, words = refused(publish)
        readable = len(store.edits.list(limit=1000).items)
        ballast.unlink()
        publish()
        store.check()
        database = {
            "before it was full": 5 + went,
            "told": words,
            "edits that could be read meanwhile": readable,
            "acknowledged": len(acknowledged),
            "there afterwards": store.version,
            "written again once there was room": acknowledged[-1] == store.version,
        }
    with tempfile.TemporaryDirectory() as place, small("24m") as disk:
        with Store.create(Path(place) / "facts.db", filled(saved, 2000), BY) as store:
            snapshot = Snapshot(store, disk / "snapshot")
            first = snapshot.follow()
            ballast = fill(disk, 2000)
            store.drafts.publish([prepared(store, 1)], BY)
            _, words = refused(snapshot.follow, 1)
            held = Saved.read(disk / "snapshot").history.count
            ballast.unlink()
            after = snapshot.follow()
        follower = {"told": words, "held meanwhile": held == first, "caught up once there was room": after == first + 1}
    return {"a store in a file": database, "a snapshot": follower}


def full_server(saved: Saved) -> dict[str, Any]:
    """Fill the disk under PostgreSQL."""
    with (
        small("400m") as disk,
        postgres(place=disk) as server,
        Store.create(server.database("facts"), saved, BY) as store,
    ):
        numbers, acknowledged = iter(range(10**6)), []

        def publish() -> None:
            acknowledged.append(store.drafts.publish([prepared(store, next(numbers))], BY).number)

        for _ in range(5):
            publish()
        ballast = fill(disk, 100_000)
        went, words = refused(publish, 5000)
        ballast.unlink()
        again = "by itself"
        if not _until(lambda: _works(publish), 30):
            with suppress(AssertionError):
                server.stop("immediate")
            server.start()
            again = "once the server was started again"
            assert _until(lambda: _works(publish), 30)
        store.check()
        return {
            "before it was full": 5 + went,
            "told": words,
            "acknowledged": len(acknowledged),
            "lost": len([number for number in acknowledged if number > store.version]),
            "written again once there was room": again,
        }


def read_only(saved: Saved) -> dict[str, Any]:
    """Read a store as a user who may not write, and on a disk that may only be read."""
    with small("24m") as disk:
        with Store.create(disk / "facts.db", saved, BY) as store:
            store.drafts.publish([prepared(store, 1)], BY)
        (disk / "facts.db").chmod(0o444)
        disk.chmod(0o555)
        told = {"another user": _asked(disk / "facts.db", _NOBODY)}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)  # noqa: S603, S607
        told["a disk that may only be read"] = _asked(disk / "facts.db", 0)
        return told


def _asked(path: Path, user: int) -> dict[str, Any]:
    def ask() -> None:
        os.setuid(user)
        with Store.open(path) as store:
            read = len(store.edits.list().items)
            _, words = refused(lambda: store.edits.remove([1], BY), 1)
            fed = store.feed.wait(-1, 10)
        print(json.dumps({"edits read": read, "version by the feed": fed, "told on writing": words}))

    pid, reads = child(ask)
    (found,) = said(reads)
    os.waitpid(pid, 0)
    return found


def backward_clock(saved: Saved) -> dict[str, Any]:
    """Write with a clock that is two days behind the one before; needs the program faketime."""
    if shutil.which("faketime") is None:
        return {"skipped": "faketime is not installed: apt-get install faketime"}
    with tempfile.TemporaryDirectory() as place, Store.create(Path(place) / "facts.db", saved, BY) as store:
        snapshot = Snapshot(store, Path(place) / "snapshot")
        tests = Path(__file__).parents[1] / "tests"
        command = [sys.executable, "-m", "support.writing", str(Path(place) / "facts.db")]
        lines = []
        for name, faked in (("now", []), ("behind", ["faketime", "-f", "-2d"]), ("now again", [])):
            done = subprocess.run(  # noqa: S603
                [*faked, *command, name, "15"], capture_output=True, text=True, check=True, cwd=tests
            )
            lines += [json.loads(line) for line in done.stdout.splitlines()]
            snapshot.follow()
        numbers = [line["version"] for line in lines if "version" in line]
        store.check()
        times = [store.versions.get(number).at for number in numbers]
        active = {record.id for record in Saved.read(snapshot.folder).history.active()}
        return {
            "versions": len(numbers),
            "without a gap": numbers == list(range(1, store.version + 1)),
            "times go backwards": times != sorted(times),
            "the snapshot has the store's edits": active == store.edits.ids(),
        }


def four_writers(saved: Saved, kind: str) -> dict[str, Any]:
    """Have four processes write at once."""
    with tempfile.TemporaryDirectory() as place, stored(kind, Path(place), saved) as (store, address, _):
        for name in SETS:
            store.sets.make(name, BY)
        store.close()
        began = time.perf_counter()
        writers = [child(write, address, f"writer {number}", 40) for number in range(4)]
        lines = [line for _, reads in writers for line in said(reads)]
        took = time.perf_counter() - began
        ends = [os.waitpid(pid, 0)[1] for pid, _ in writers]
        numbers = sorted(line["version"] for line in lines if "version" in line)
        with Store.open(address) as mine:
            mine.check()
            last = mine.version
        return {
            "ended well": ends == [0] * 4,
            "versions": len(numbers),
            "each once, without a gap": numbers == list(range(1, last + 1)),
            "conflicts, with both sides": sum("conflict" in line for line in lines),
            "refused": sum("refused" in line for line in lines),
            "errors": [line["error"] for line in lines if "error" in line],
            "seconds": round(took, 1),
        }


def damage(saved: Saved, trials: int = 400) -> dict[str, Any]:
    """Alter bytes anywhere in a store's file, cut it, and empty parts of it."""
    chance, count = random.Random(3), Counter[str]()  # noqa: S311
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        root = Path(place)
        with Store.create(root / "facts.db", filled(saved, 40), BY) as store:
            store.edits.describe([1, 2, 3], BY, tags=["a"], subject="b", source="c")
            store.edits.remove([4], BY)
            right = _told(store, root / "right")
        content = (root / "facts.db").read_bytes()
        for number in range(trials):
            path = root / f"{number}.db"
            path.write_bytes(_altered(content, chance))
            try:
                with Store.open(path) as store:
                    count["right" if _told(store, root / "told") == right else "WRONG"] += 1
            except HorenError as error:
                count["refused" if isinstance(error, StoreError) else f"refused as {type(error).__name__}"] += 1
            except Exception as error:
                count[f"ended with {type(error).__name__}"] += 1
            shutil.rmtree(root / "told", ignore_errors=True)
            for file in root.glob(f"{number}.db*"):
                file.unlink()
    return {"trials": trials, **count}


def _altered(content: bytes, chance: random.Random) -> bytes:
    found = bytearray(content)
    way = chance.choice(("bits", "bits", "many bits", "cut", "zeros"))
    if way == "cut":
        return bytes(found[: chance.randrange(len(found))])
    if way == "zeros":
        start = chance.randrange(len(found))
        length = min(chance.choice((16, 512, 4096)), len(found) - start)
        found[start : start + length] = bytes(length)
        return bytes(found)
    for _ in range(1 if way == "bits" else 16):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def _told(store: Store, folder: Path) -> list[Any]:
    Snapshot(store, folder).follow()
    saved = Saved.read(folder)
    tables = {name: tensor.tolist() for name, tensor in saved.folder.tensors.items()}
    told = [saved.folder.records, tables, saved.folder.config["settings"], store.edits.list(limit=1000)]
    return [*told, store.versions.list(), store.drafts.list(), store.audit.list()]


def away(saved: Saved, kind: str) -> dict[str, Any]:
    """Take the database away for 30 seconds, from one who writes, one who waits for versions and one who follows."""
    with tempfile.TemporaryDirectory() as place, stored(kind, Path(place), saved) as (store, address, server):
        drafts = iter([prepared(store, number) for number in range(4)])
        store.drafts.publish([next(drafts)], BY)
        snapshot, over, told = Snapshot(store, Path(place) / "snapshot"), threading.Event(), []
        keeper = threading.Thread(target=snapshot.keep, args=(told.append, over.is_set))
        keeper.start()
        assert _until(lambda: told == [1], 60)
        errors: list[tuple[float, str]] = []
        read = 0
        with _gone(server, address) as back:
            draft, began = next(drafts), time.monotonic()
            while not back.is_set():
                if not errors or kind == "postgresql":
                    with suppress(AssertionError):
                        _, words = refused(lambda: store.drafts.publish([draft], BY), 1)
                        if words is not None:
                            errors.append((round(time.monotonic() - began, 1), words))
                with suppress(StoreError):
                    read += len(store.edits.list().items) > 0
                time.sleep(0.5)
        returned = time.monotonic()
        assert _until(lambda: _works(lambda: store.drafts.publish([draft], BY)), 60)
        wrote = time.monotonic() - returned
        assert _until(lambda: told[-1] == 2, 60)
        followed = time.monotonic() - returned
        assert store.feed.wait(1, 10) == 2
        over.set()
        keeper.join()
        store.check()
        return {
            "told": sorted({words for _, words in errors}),
            "first told after_s": errors[0][0] if errors else None,
            "refused": len(errors),
            "read meanwhile": read,
            "written again after_s": round(wrote, 2),
            "followed again after_s": round(followed, 2),
            "versions": store.version,
        }


@contextmanager
def _gone(server: Server | None, address: str) -> Iterator[threading.Event]:
    """Take a database away; the event is set once it is back."""
    back = threading.Event()
    if server is not None:
        server.stop("immediate")
        timer = threading.Timer(_AWAY, lambda: (server.start(), back.set()))
        timer.start()
        yield back
        timer.join()
        return

    def lock() -> None:
        with closing(sqlite3.connect(address, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked.set()
            # Longer than a writer waits.
            time.sleep(_AWAY + 10)
            other.execute("ROLLBACK")
        back.set()

    locked = threading.Event()
    holder = threading.Thread(target=lock)
    holder.start()
    locked.wait()
    yield back
    holder.join()


def _works(change: Callable[[], Any]) -> bool:
    try:
        change()
    except StoreError:
        return False
    return True


def _until(holds: Callable[[], bool], patience: float) -> bool:
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def faults(given: argparse.Namespace) -> dict[str, Any]:
    """Bring about each fault, and say what came of it; mounting needs to be root."""
    with tempfile.TemporaryDirectory(dir=given.place) as place:
        saved = default_book(Path(place) / "book")
        wanted: dict[str, Callable[[], dict[str, Any]]] = {
            "a full disk": lambda: full_disk(saved),
            "a full disk, PostgreSQL": lambda: full_server(saved),
            "may only be read": lambda: read_only(saved),
            "a clock that goes backwards": lambda: backward_clock(saved),
            "four writers at once, sqlite": lambda: four_writers(saved, "sqlite"),
            "four writers at once, postgresql": lambda: four_writers(saved, "postgresql"),
            "a damaged file": lambda: damage(saved),
            "locked by another for 40 s, sqlite": lambda: away(saved, "sqlite"),
            "away for 30 s, postgresql": lambda: away(saved, "postgresql"),
        }
        told = {}
        for name, bring in wanted.items():
            if given.only is None or given.only in name:
                told[name] = bring()
                print(name, json.dumps(told[name]), flush=True)
        return told
