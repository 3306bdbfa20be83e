"""A GGUF file as ``--model``."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import EDITS, Ok, Run, write_jsonl

from support.gguf_files import write_gguf

QUICK = ("--preset", "activations", "--set", "key_space=raw", "--set", "max_steps=1")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    return write_gguf(tmp_path / "tiny.gguf")


def test_a_file_is_edited_and_may_move(run: Run, ok: Ok, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    edits = write_jsonl(tmp_path / "edits.jsonl", EDITS)
    given = run("edit", edits, "--into", "book", "--model", "tiny.gguf", *QUICK)
    assert given.exit_code == 0, given.stderr
    assert "Converting tiny.gguf to bfloat16 (once)" in given.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    asked = ("ask", "../book", EDITS[0]["prompt"])
    before = ok(*asked)
    moved = file.rename(tmp_path / "moved.gguf")
    gone = run(*asked)
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert f"'{file}' cannot be loaded" in gone.stderr
    assert "say with --model where it is now" in gone.stderr
    assert ok(*asked, "--model", "../moved.gguf") == before
    write_gguf(moved, seed=1)
    assert "its weights differ" in run(*asked, "--model", "../moved.gguf").stderr


def test_the_type_of_weights_is_the_one_that_is_asked_for(run: Run, ok: Ok, file: Path, tmp_path: Path):
    edits = write_jsonl(tmp_path / "edits.jsonl", EDITS)
    given = run("edit", edits, "--into", "book", "--model", file, "--dtype", "float32", *QUICK)
    assert "Converting tiny.gguf to float32 (once)" in given.stderr
    assert [item["weights"] for item in ok("models") if item["file"]] == ["float32"]
