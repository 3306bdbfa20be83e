from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from io import BufferedReader
from pathlib import Path

import pytest
from folder_states import in_child, needs_fork, same, state

from horen.errors import StoreError
from horen.store import lock_folder, read_folder, write_folder


def add_one(path: Path) -> None:
    with lock_folder(path, timeout=60):
        number = read_folder(path).config["number"] if (path / "config.json").exists() else 0
        write_folder(path, **state(number + 1))


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_folder_together import add_one
for _ in range(8):
    add_one(Path(sys.argv[1]))
"""


def test_writers_in_several_processes_and_a_reader(tmp_path: Path):
    path = tmp_path / "shared"
    add_one(path)
    here = str(Path(__file__).parent)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), here]) for _ in range(2)]
    last = 1
    while any(writer.poll() is None for writer in writers):
        folder = read_folder(path)
        number = folder.config["number"]
        assert same(folder, state(number))
        assert number >= last
        last = number
    assert [writer.wait() for writer in writers] == [0, 0]
    assert read_folder(path).config["number"] == 17


def test_writers_in_several_threads_lose_nothing(tmp_path: Path):
    # Two spellings of one folder are one folder.
    spellings = (tmp_path / "x", tmp_path / "x" / ".." / "x")
    add_one(tmp_path / "x")
    failures: list[BaseException] = []

    def work(path: Path) -> None:
        try:
            for _ in range(8):
                add_one(path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(path,)) for path in spellings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert read_folder(tmp_path / "x").config["number"] == 17


def test_a_writer_that_waits_in_vain_says_so(tmp_path: Path):
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock_folder(tmp_path):
            ready.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(30)
    try:
        with pytest.raises(StoreError, match=r"is in use.*0\.2 s"), lock_folder(tmp_path, timeout=0.2):
            pass
    finally:
        done.set()
        thread.join()
    # The thread that holds the lock may take it again, under another spelling of the path too.
    with lock_folder(tmp_path, timeout=0.2), lock_folder(tmp_path / "x" / "..", timeout=0.2):
        write_folder(tmp_path, **state(1))
    write_folder(tmp_path, **state(2))


@needs_fork
def test_a_forked_child_does_not_inherit_the_lock(tmp_path: Path):
    def act() -> None:
        try:
            with lock_folder(tmp_path, timeout=0.2):
                pass
        except StoreError:
            os._exit(5)

    with lock_folder(tmp_path):
        assert in_child(act) == 5
        with lock_folder(tmp_path):
            pass


def test_a_reader_that_a_writer_overtakes_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path, **state(2))
    original = io.open
    pending = [True]

    def overtaken(file: Path, *args: object) -> BufferedReader:
        if str(file).endswith("edits.jsonl") and pending:
            pending.clear()
            write_folder(tmp_path, **state(3))
        return original(file, *args)

    monkeypatch.setattr(io, "open", overtaken)
    assert same(read_folder(tmp_path), state(3))
    assert not pending


def test_a_folder_that_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path, **state(2))
    (tmp_path / "edits.jsonl").write_bytes(b"")
    original = io.open

    def touch(file: Path, *args: object) -> BufferedReader:
        if str(file).endswith("config.json"):
            os.utime(file, ns=(0, os.stat(file).st_mtime_ns + 1_000_000))  # noqa: PTH116
        return original(file, *args)

    monkeypatch.setattr(io, "open", touch)
    with pytest.raises(StoreError, match="kept changing"):
        read_folder(tmp_path)
