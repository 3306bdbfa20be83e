"""Where the program's output goes, how it is asked for help, and what it says of a model that is elsewhere now."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import EDITS, Ok, Run

from horen.cli.terminal import show_list


def told(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a command, in which horen stands for the program."""
    program = f"{sys.executable} -m horen.cli"
    return subprocess.run(
        ["/bin/sh", "-c", command.replace("horen", program, 1)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | variables,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["horen list {}", "horen list {} --json", "horen --help", "horen --version"])
def test_output_that_cannot_be_written(command: str, made: Path):
    ran = told(command.format(made) + " > /dev/full")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: The output cannot be written (No space left on device)")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["horen list {}", "horen list {} --json", "horen --version"])
def test_output_that_is_closed(command: str, made: Path):
    ran = told(command.format(made) + " >&-")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: Standard output is closed")
    assert ran.stderr.count("\n") == 1


def test_a_reader_that_has_enough_is_no_error(made: Path):
    ran = told(f"horen list {made} | true")
    assert ran.stderr == ""


@pytest.mark.parametrize("arguments", [(), ("edit",), ("list",), ("bench",), ("bench", "run")])
def test_short_help(arguments: tuple[str, ...], run: Run):
    short, long = run(*arguments, "-h"), run(*arguments, "--help")
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "Usage:" in short.stdout


@pytest.mark.parametrize("width", [20, 24, 30])
def test_a_list_on_a_narrow_terminal(width: int, made: Path):
    result = told(f"horen list {made}", COLUMNS=str(width))
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= width
    flat = " ".join(result.stdout.split())
    for edit in EDITS:
        assert f"prompt: {edit['prompt']}" in flat
        assert f"target: {edit['target']}" in flat


@pytest.mark.parametrize("command", ["ask", "doctor", "rekey"])
def test_a_model_that_has_moved(command: str, tiny: Path, tmp_path: Path, run: Run, ok: Ok):
    moved = Path(shutil.copytree(tiny, tmp_path / "now"))
    gone = Path(shutil.move(shutil.copytree(tiny, tmp_path / "then"), tmp_path / "elsewhere"))
    book = tmp_path / "book"
    shutil.copytree(moved, tmp_path / "then")
    edits = tmp_path / "edits.jsonl"
    edits.write_text('{"prompt": "Who runs Larkspur Cloud?", "target": "Imogen"}\n')
    ok("edit", edits, "--into", book, "--model", tmp_path / "then", "--preset", "activations", "--set", "max_steps=1")
    shutil.rmtree(tmp_path / "then")
    more = {"ask": ["Who?"], "doctor": ["--plain"], "rekey": ["--set", "threshold=0.6"]}[command]
    result = run(command, book, *more)
    assert result.exit_code == 1
    assert f"{tmp_path / 'then'}" in " ".join(result.stderr.split())
    assert "it is not there any more: say with --model where it is now" in " ".join(result.stderr.split())
    assert run(command, book, *more, "--model", gone).exit_code in ({0, 1} if command == "doctor" else {0})


def test_lists_for_another_program_are_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "The engine\twas\nbuilt in 1911. " * 100
    show_list(("id", "target"), [("1", long), ("2", "\x1b[31mred")], "2 edits")
    first, *rows = capsys.readouterr().out.split("\n")
    assert first == "id\ttarget"
    assert rows == [f"1\t{' '.join(long.split())}", "2\t\\x1b[31mred", ""]
    monkeypatch.setenv("COLUMNS", "40")
    show_list(("id", "target"), [("1", long), ("2", "red")], "2 edits")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[-1] == "2 edits"
