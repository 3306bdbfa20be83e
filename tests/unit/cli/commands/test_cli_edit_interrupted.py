"""Interruptions and errors in the middle of writing a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, OTHER, Ok, Run, file_of, interrupt_at, stored

from horen.cli.flow import applying
from horen.editor import Editor


def test_interruption_saves_what_is_done_and_a_second_run_continues(
    run: Run, ok: Ok, new: list[str], monkeypatch: pytest.MonkeyPatch
):
    command = ["edit", file_of(*EDITS, OTHER), "--into", "book", "--batch", 1, *new]
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        result = run(*command, "--json")
    assert result.exit_code == 130
    assert "Interrupted: 2 of 4 edits are done and saved. The same command again continues." in result.stderr
    document = json.loads(result.stdout)
    assert document["interrupted"] is True
    assert (document["counts"]["added"], document["counts"]["remaining"]) == (2, 2)
    assert list(stored(Path("book"))) == [EDITS[0]["prompt"], EDITS[1]["prompt"]]

    document = ok(*command)
    assert [item["action"] for item in document["receipts"]] == ["unchanged", "unchanged", "added", "added"]
    assert [item["id"] for item in document["receipts"]] == [1, 2, 3, 4]
    assert len(stored(Path("book"))) == 4


def test_interruption_right_after_a_batch_was_stored_counts_it(
    run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch
):
    real = Editor.edit

    def edit(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Editor, "edit", edit)
    result = run("edit", file_of(*EDITS), "--into", "book", "--batch", 2, *new)
    assert result.exit_code == 130
    assert "2 of 3 edits are done" in result.stderr
    assert len(stored(Path("book"))) == 2


def test_interruption_before_anything_is_done_leaves_no_folder(
    run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch
):
    interrupt_at(1, monkeypatch)
    result = run("edit", file_of(*EDITS), "--into", "book", *new)
    assert result.exit_code == 130
    assert "no edits were done" in result.stderr
    assert "--batch" in result.stderr
    assert not Path("book").exists()


def test_error_in_the_middle_saves_what_is_done(run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch):
    interrupt_at(2, monkeypatch, MemoryError("too large"))
    result = run("edit", file_of(*EDITS), "--into", "book", "--batch", 1, *new)
    assert isinstance(result.exception, MemoryError)
    assert len(stored(Path("book"))) == 1


def test_saves_are_made_in_between_when_time_has_passed(ok: Ok, new: list[str], monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    real = Editor.save

    def save(self: Editor, path: Any) -> None:
        sizes.append(len(self.edits()))
        real(self, path)

    monkeypatch.setattr(Editor, "save", save)
    ok("edit", file_of(*EDITS), "--into", "book", "--batch", 1, *new)
    assert sizes == [3]
    sizes.clear()
    monkeypatch.setattr(applying, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(applying, "_SAVE_SHARE", 0.0)
    ok("edit", file_of(*EDITS), "--into", "more", "--batch", 1, *new)
    assert sizes == [1, 2, 3]


def test_real_ctrl_c(new: list[str]):
    code = (
        # A job that was started in the background ignores the signal.
        "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from horen.editor import Editor\nreal, calls = Editor.edit, []\n"
        "def edit(*args, **kwargs):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(*args, **kwargs)\n"
        "Editor.edit = edit\n"
        "from horen.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code, "edit", str(file_of(*EDITS)), "--into", "book", "--batch", "1", *new]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 130
    assert "Interrupted: 1 of 3 edits are done and saved." in result.stderr
    assert "Traceback" not in result.stderr
    assert len(stored(Path("book"))) == 1
