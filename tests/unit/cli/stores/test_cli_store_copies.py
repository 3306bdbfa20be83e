"""The commands that copy and follow stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, Ok, Run

from horen.store.state import Saved

# --- copies ------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_store(facts: Path, ok: Ok, run: Run):
    ok("remove", facts, 1)
    document = ok("backup", facts, "copy.db")
    assert (document["version"], document["bytes"]) == (2, Path("copy.db").stat().st_size)
    ok("remove", facts, 2)
    assert [edit["id"] for edit in ok("list", "copy.db")] == [3, 2]
    for target in ("copy.db", "nowhere/copy.db"):
        result = run("backup", facts, target)
        assert (result.exit_code, result.stdout) == (1, "")
        assert target in result.stderr


def test_a_store_of_this_release_is_up_to_date(facts: Path, ok: Ok, run: Run):
    document = ok("upgrade", facts)
    assert document["before"] == document["after"]
    assert run("upgrade", facts).stdout == f"{facts} is up to date ({document['after']}).\n"
    for wrong in ("nowhere.db", "folder"):
        result = run("upgrade", wrong)
        assert (result.exit_code, result.stdout) == (1, "")


def test_a_rekeyed_snapshot_makes_a_new_store(facts: Path, ok: Ok):
    ok("follow", facts, "snapshot", "--once")
    ok("rekey", "snapshot", "--set", "threshold=0.3", "--out", "rekeyed")
    ok("import", "rekeyed", "--into", "new.db")
    assert [edit["prompt"] for edit in ok("list", "new.db")] == [edit["prompt"] for edit in EDITS[::-1]]
    assert ok("explain", "new.db", EDITS[0]["prompt"])[0]["threshold"] == pytest.approx(0.3)


# --- following ---------------------------------------------------------------------------------------------------


def test_a_folder_is_brought_to_the_last_version(facts: Path, book: Path, ok: Ok, run: Run):
    assert ok("follow", facts, "snapshot", "--once") == {"folder": "snapshot", "version": 1}
    ok("remove", facts, 1)
    assert run("follow", facts, "snapshot", "--once").stdout == "snapshot is at version 2.\n"
    assert ok("list", "snapshot") == ok("list", "snapshot", "--after", 1)
    assert len(Saved.read("snapshot").history) == 2
    result = run("follow", facts, book, "--once")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{book} follows no store" in result.stderr


def started(store: Path | str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "horen.cli", "follow", str(store), "snapshot", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def line_of(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_folder_is_kept_in_step_until_it_is_enough(end: signal.Signals, facts: Path, ok: Ok):
    process = started(facts, "--json")
    try:
        assert line_of(process) == {"folder": "snapshot", "version": 1}
        ok("remove", facts, 1)
        assert line_of(process)["version"] == 2
        ok("undo", facts)
        assert line_of(process)["version"] == 3
        process.send_signal(end)
        rest, said = process.communicate(timeout=60)
        assert (process.returncode, rest, said) == (0, "", "")
    finally:
        process.kill()
        process.wait()
    assert len(Saved.read("snapshot").history) == 3


def test_a_database_that_is_away_is_waited_for(server: Any, served: str, book: Path, ok: Ok):
    ok("import", book, "--into", served)
    process = started(served, "--json")
    try:
        assert line_of(process)["version"] == 1
        server.stop()
        time.sleep(2)
        server.start()
        ok("remove", served, 1)
        assert line_of(process)["version"] == 2
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "snapshot stays at what it holds" in said
        assert "geheim" not in said
    finally:
        process.kill()
        process.wait()


def test_what_is_for_stores_refuses_a_folder(book: Path, run: Run):
    commands = [
        ["diff", book, "1"],
        ["tag", book],
        ["rollback", book, "1"],
        ["sets", book],
        ["keys", book],
        ["audit", book],
        ["drafts", book],
        ["backup", book, "copy.db"],
        ["upgrade", book],
        ["follow", book, "other", "--once"],
    ]
    for command in commands:
        result = run(*command)
        assert (result.exit_code, result.stdout) == (1, ""), command
        assert str(book) in result.stderr
        assert "store" in result.stderr
