"""A command that is started, does one thing and ends pays for nothing that it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, OTHER, Ok, Run, write_jsonl

import horen
from horen import store
from horen.cli.commands import ON_DEMAND
from horen.cli.commands.stored import as_dict
from horen.store import additions
from horen.store.state import Saved

HEAVY = {"torch", "transformers", "numpy", "scipy", "sklearn", "safetensors", "huggingface_hub"}


def run_alone(*args: Any) -> tuple[set[str], str]:
    """Run the program in a process of its own; the modules that it had at its end, and what it printed."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        "from horen.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code, *map(str, args)]
    # What runs the tests may say how wide its terminal is, and then a table is printed into a pipe.
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return set(done.stderr.split()), done.stdout


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["show", 2], ["history"], ["history", "--json"]])
def test_what_is_told_of_a_folder_needs_no_tensors(command: list[Any], book: Path, run: Run):
    loaded, printed = run_alone(command[0], book, *command[1:])
    assert not loaded & HEAVY
    assert printed == run(command[0], book, *command[1:]).stdout
    assert printed


def test_an_export_needs_no_tensors(book: Path, tmp_path: Path):
    loaded, printed = run_alone("export", book, tmp_path / "edits.csv")
    assert not loaded & HEAVY
    assert printed == f"Wrote 3 edits to {tmp_path / 'edits.csv'}.\n"


def test_a_command_imports_no_other():
    loaded, _ = run_alone("list", "--help")
    assert not loaded & HEAVY
    commands = {name for name in loaded if name.startswith("horen.cli.commands.")}
    assert commands == {"horen.cli.commands.stored"}
    assert "horen.config" not in loaded


def test_every_command_has_a_place():
    places = {place.module for place in ON_DEMAND.values()}
    files = {file.stem for file in (Path(horen.__file__).parent / "cli" / "commands").glob("*.py")} - {"__init__"}
    assert places <= files
    assert files - places == {"tune", "train_mend"}  # which are commands of bench


@pytest.mark.parametrize("module", [horen, store])
def test_every_name_comes_when_it_is_asked_for(module: Any):
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_lists_after_every_kind_of_change(
    book: Path, run: Run, ok: Ok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is printed follows from the folder as it is read with its tensors."""
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 100.0)
    more = write_jsonl(tmp_path / "more.jsonl", [OTHER])
    changes = (["remove", book, 1], ["edit", more, "--into", book], ["supersede", book, 3, "May"], ["undo", book])
    for change in changes[:2] + changes[3:]:
        assert run(*change).exit_code in {0, 3}, change
        check(book, run, ok)
    assert any("added" in entry.name for entry in book.iterdir())
    ok("compact", book)
    check(book, run, ok)


def check(book: Path, run: Run, ok: Ok) -> None:
    history = Saved.read(book).history
    assert ok("list", book) == json.loads(json.dumps([as_dict(record) for record in history.active()]))
    rows = [line.split("\t")[:3] for line in run("list", book).stdout.splitlines()]
    assert rows == [["id", "prompt", "target"], *([str(r.id), r.prompt, r.target] for r in history.active())]
    told = ok("history", book)
    assert [[record["id"] for record in item["added"]] for item in told] == [
        [record.id for record in operation.added] for operation in history.operations
    ]
    assert [record for item in told for record in item["added"]] == json.loads(
        json.dumps([as_dict(record) for operation in history.operations for record in operation.added])
    )
    for record in history.active():
        shown = ok("show", book, record.id)
        assert shown.pop("bytes")["keys"] > 0
        assert shown == json.loads(json.dumps(as_dict(record)))


# --- pages -------------------------------------------------------------------------------------------------------


def test_a_page_of_a_list(book: Path, run: Run, ok: Ok):
    everything = ok("list", book)
    assert ok("list", book, "--limit", 2) == everything[:2]
    assert ok("list", book, "--limit", 2, "--after", 2) == ok("list", book, "--after", 2) == everything[2:]
    result = run("list", book, "--limit", 2)
    assert result.stdout == "".join(f"{line}\n" for line in run("list", book).stdout.splitlines()[:3])
    assert result.stderr == "2 of 3 active edits; --after 2 lists more\n"
    result = run("list", book, "--limit", 2, "--after", 1)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["id", "2", "3"]
    assert result.stderr == "2 of 3 active edits\n"
    assert run("list", book, "--limit", len(EDITS)).stderr == ""


def test_a_page_on_a_terminal(book: Path, run: Run, ok: Ok):
    ok("remove", book, 1)
    asleep = f"1 asleep, superseded, removed or undone (horen history {book})"
    lines = run("list", book, "--limit", 1, columns=200).stdout.splitlines()
    assert lines[-1] == f"1 of 2 active edits; {asleep}; --after 2 lists more"
    assert run("list", book, columns=200).stdout.splitlines()[-1] == f"2 active edits; {asleep}"


def test_a_page_after_the_last(book: Path, run: Run):
    result = run("list", book, "--after", 9)
    assert (result.exit_code, result.stdout) == (0, f"{book} holds no active edits after 9.\n")
    assert run("list", book, "--limit", 0).exit_code == 2


# --- asking ------------------------------------------------------------------------------------------------------


def test_a_question_reads_the_folder_once(book: Path, ok: Ok, monkeypatch: pytest.MonkeyPatch):
    read, real = [], Saved._read.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Saved], path: Path) -> Saved:
        read.append(path)
        return real(cls, path)  # type: ignore[no-any-return]

    monkeypatch.setattr(Saved, "_read", classmethod(counted))
    assert ok("ask", book, EDITS[0]["prompt"])[0]["answer"] == EDITS[0]["target"]
    assert read == [book]
