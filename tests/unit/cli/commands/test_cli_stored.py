"""Commands on a saved codebook that need no model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import EDITS, Ok, Run

from horen.store.state import Saved


def test_list(book: Path, run: Run, ok: Ok):
    records = ok("list", book)
    assert [(r["id"], r["prompt"], r["target"]) for r in records] == [
        (number, edit["prompt"], edit["target"]) for number, edit in enumerate(EDITS, start=1)
    ]
    assert records[1]["rephrases"] == EDITS[1]["rephrases"]
    assert not {"entries", "value"} & set(records[0])
    result = run("list", book, columns=140)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + len(EDITS) + 1
    assert lines[2].split()[0] == "1"
    assert EDITS[0]["prompt"] in lines[2]
    assert lines[-1] == "3 active edits"


def test_list_for_another_program(book: Path, run: Run):
    """A line for each edit, whole, whatever is in its texts; no padding, no rule, nothing but edits and their head."""
    result = run("list", book)
    told = [line.split("\t") for line in result.stdout.splitlines()]
    assert told[0] == ["id", "prompt", "target", "note"]
    assert [row[:3] for row in told[1:]] == [[str(i), e["prompt"], e["target"]] for i, e in enumerate(EDITS, start=1)]
    assert told[2][3].startswith("1 rephrase")
    assert result.stderr == ""


def test_list_tells_how_many_edits_are_asleep(book: Path, run: Run, ok: Ok):
    ok("remove", book, 1)
    asleep = f"asleep, superseded, removed or undone (horen history {book})\n"
    assert run("list", book, columns=140).stdout.endswith(f"\n2 active edits; 1 {asleep}")
    assert len(run("list", book).stdout.splitlines()) == 3
    ok("remove", book, 2, 3)
    result = run("list", book)
    assert (result.stdout, result.stderr) == (f"{book} holds no active edits.\n", f"3 {asleep}")


def test_list_needs_neither_the_model_nor_transformers(book: Path, tiny: Path):
    code = (
        "import sys\nfrom horen.cli.app import app\n"
        f"app(['list', {str(book)!r}], standalone_mode=False)\n"
        "assert 'transformers' not in sys.modules"
    )
    away = tiny.rename(tiny.with_name("away"))
    try:
        wide = {**os.environ, "COLUMNS": "200"}  # a test runner may say that the terminal is narrow
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=wide)
    finally:
        away.rename(tiny)
    assert result.returncode == 0, result.stderr
    assert EDITS[0]["prompt"] in result.stdout


def test_list_of_nothing(book: Path, run: Run, ok: Ok):
    ok("undo", book)
    assert run("list", book).stdout == f"{book} holds no active edits.\n"
    assert ok("list", book) == []


def test_show(book: Path, run: Run, ok: Ok):
    record = ok("show", book, 2)
    assert record["rephrases"] == EDITS[1]["rephrases"]
    assert {"loss", "steps", "converged", "reused", "created", "replaces"} <= set(record)
    table = Saved.read(book).folder.tensors
    assert record["bytes"] == {"keys": 2 * table["keys"][0].nbytes, "value": 2 * 64}
    lines = run("show", book, 2).stdout.splitlines()
    assert f"bytes     keys {record['bytes']['keys']:,}, value 128 (bfloat16)" in lines
    assert lines[:4] == [
        "edit      2",
        "prompt    Who runs Larkspur Cloud?",
        "target    Imogen",
        "rephrase  The boss of Larkspur Cloud is",
    ]


def test_remove_and_undo(book: Path, run: Run, ok: Ok):
    document = ok("remove", book, 3, 1)
    assert [record["id"] for record in document["removed"]] == [3, 1]
    assert [record["id"] for record in ok("list", book)] == [2]
    assert ok("undo", book) == {"operation": "remove", "removed": [], "restored": [3, 1]}
    assert run("remove", book, 2).stdout == "Removed edit 2: Who runs Larkspur Cloud? -> Imogen\n"
    assert run("undo", book).stdout == "Took back the last operation (remove). Edit 2 is back.\n"
    assert run("undo", book).stdout == "Took back the last operation (edit). Edits 1-3 are gone.\n"
    result = run("undo", book)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: There is nothing to undo")


def test_removed_edits_do_not_answer(book: Path, ok: Ok):
    prompt = EDITS[2]["prompt"]
    ok("remove", book, 3)
    found = ok("ask", book, prompt, "--compare", "--explain")[0]
    assert found["answer"] == found["untouched"]
    assert found["explanation"]["edit_id"] != 3


@pytest.mark.parametrize("command", [["show", "7"], ["remove", "1", "7"]])
def test_unknown_ids_change_nothing(command: list[str], book: Path, run: Run):
    result = run(command[0], book, *command[1:])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no edit 7: list the edits to see their ids.\n"
    assert len(Saved.read(book).history) == 3


def test_history(book: Path, run: Run, ok: Ok):
    assert [item["operation"] for item in ok("history", book)] == ["edit"]
    ok("remove", book, 1)
    ok("undo", book)
    operations = ok("history", book)
    assert [item["operation"] for item in operations] == ["edit", "remove", "undo"]
    assert [item["removed"] for item in operations] == [[], [1], []]
    assert (operations[1]["undone_by"], operations[2]["undoes"]) == (3, 2)
    assert [record["id"] for record in operations[0]["added"]] == [1, 2, 3]
    rows = run("history", book, columns=140).stdout.splitlines()[2:]
    assert "1-3" in rows[0]
    assert "undone by 3" in rows[1]
    assert "undoes 2" in rows[2]
    piped = [line.split("\t") for line in run("history", book).stdout.splitlines()]
    assert [row[0] for row in piped] == ["no.", "1", "2", "3"]
    assert piped[2][2:] == ["remove", "", "1", "undone by 3"]


@pytest.mark.parametrize("command", ["list", "history", "undo"])
def test_folders_that_are_no_codebook(command: str, run: Run, tmp_path: Path):
    result = run(command, tmp_path / "nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not exist; check the path" in result.stderr
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    result = run(command, tmp_path / "other")
    assert result.exit_code == 1
    assert "holds no codebook" in result.stderr


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_export_and_import(name: str, book: Path, tiny: Path, ok: Ok):
    assert ok("export", book, name) == {"file": name, "edits": 3}
    quick = ["--set", "key_space=raw", "--set", "max_steps=1"]
    assert ok("import", name, "--into", "copy", "--model", tiny, *quick)["counts"]["added"] == 3
    copied, original = ok("list", "copy"), ok("list", book)
    fields = ("prompt", "target", "rephrases")
    assert [[r[f] for f in fields] for r in copied] == [[r[f] for f in fields] for r in original]


def test_export_does_not_overwrite(book: Path, run: Run):
    Path("out.jsonl").write_text("precious")
    result = run("export", book, "out.jsonl")
    assert result.exit_code == 1
    assert "exists already: choose another name, or replace it with --overwrite" in result.stderr
    assert Path("out.jsonl").read_text() == "precious"
    result = run("export", book, "out.jsonl", "--overwrite")
    assert result.stdout == "Wrote 3 edits to out.jsonl.\n"
    assert json.loads(Path("out.jsonl").read_text().splitlines()[0]) == EDITS[0]


def test_export_into_an_unknown_format(book: Path, run: Run):
    result = run("export", book, "out.xlsx")
    assert result.exit_code == 1
    assert "it must end in" in result.stderr
