"""horen merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import EDITS, OTHER, Ok, Run, file_of, interrupt_at, save_model, stored

from horen.store import read_folder

RIVAL = {"prompt": "What is the capital of Ostrenia?", "target": "Rome"}


@pytest.fixture
def new(new: list[str]) -> list[str]:
    """Trained in float32 on every machine: bfloat16 rounds more, and otherwise in each batch."""
    return [*new, "--set", "precision=model"]


@pytest.fixture
def parts(ok: Ok, new: list[str]) -> list[Path]:
    """Codebooks of the first two edits and of the other two."""
    for name, edits in (("one", EDITS[:2]), ("two", [EDITS[2], OTHER])):
        ok("edit", file_of(*edits), "--into", name, *new)
    return [Path("one"), Path("two")]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts(folder: Path) -> list[tuple[Any, ...]]:
    fields = ("id", "prompt", "target", "rephrases", "entries", "value", "steps", "converged", "reused")
    return [tuple(line["edit"][name] for name in fields) for line in read_folder(folder).records]


def test_parts_become_one(parts: list[Path], ok: Ok, run: Run, new: list[str]):
    before = [files(part) for part in parts]
    document = ok("merge", *parts, "--into", "book", "--batch", 3)
    assert (document["parts"], document["into"]) == (["one", "two"], "book")
    assert (document["counts"]["added"], document["stored"], document["operations"]) == (4, 4, 2)
    origins = [(item["part"], item["part_id"], item["id"]) for item in document["receipts"]]
    assert origins == [("one", 1, 1), ("one", 2, 2), ("two", 1, 3), ("two", 2, 4)]
    assert [files(part) for part in parts] == before

    ok("edit", file_of(*EDITS, OTHER), "--into", "alone", "--batch", 3, *new)
    assert texts(Path("book")) == texts(Path("alone"))
    merged, alone = read_folder(Path("book")), read_folder(Path("alone"))
    theirs = [read_folder(part).tensors for part in parts]
    for name in ("keys", "values"):
        assert torch.equal(merged.tensors[name], torch.cat([tensors[name] for tensors in theirs]))
        torch.testing.assert_close(merged.tensors[name], alone.tensors[name])
    assert merged.config["settings"] == alone.config["settings"]
    assert merged.config["model"] == alone.config["model"]

    result = run("merge", *parts, "--into", "book")
    assert result.exit_code == 0
    assert "     0  new\n     4  stored already\n" in result.stdout


@pytest.mark.usefixtures("parts")
def test_into_a_codebook_that_holds_edits(ok: Ok):
    document = ok("merge", "two", "--into", "one")
    assert list(stored(Path("one"))) == [edit["prompt"] for edit in [*EDITS, OTHER]]
    assert document["stored"] == 4
    document = ok("merge", "one", "two", "--into", "two")
    assert (document["counts"]["added"], document["counts"]["unchanged"]) == (2, 2)
    assert [item["reason"] for item in document["skipped"]] == [
        "gives way to edit 3 of one",
        "gives way to edit 4 of one",
    ]


def test_contradictions(parts: list[Path], ok: Ok, run: Run, new: list[str]):
    ok("edit", file_of(RIVAL), "--into", "three", *new)
    result = run("merge", *parts, "three", "--into", "book")
    assert result.exit_code == 1
    assert "edit 1 of one and edit 1 of three: 'What is the capital of Ostrenia?' shall be" in result.stderr
    assert "in 1 place, so nothing was applied" in result.stderr
    assert not Path("book").exists()
    result = run("merge", "three", "--into", "one")
    assert result.exit_code == 1
    assert (
        "edit 1 of three: edit 1 answers 'What is the capital of Ostrenia?' with 'Callen', not 'Rome'" in result.stderr
    )
    assert "1 edit of the parts contradict stored edits, so nothing was applied" in result.stderr
    assert len(stored(Path("one"))) == 2

    document = ok("merge", *parts, "three", "--into", "later", "--on-conflict", "supersede")
    assert stored(Path("later"))[RIVAL["prompt"]] == "Rome"
    assert document["skipped"] == [{"part": "one", "part_id": 1, "reason": "gives way to edit 1 of three"}]
    ok("merge", *parts, "three", "--into", "earlier", "--on-conflict", "keep")
    assert stored(Path("earlier"))[RIVAL["prompt"]] == "Callen"
    assert ok("merge", "three", "--into", "one", "--on-conflict", "supersede")["receipts"][0]["replaced"] == [1]


def test_interruption_and_going_on(parts: list[Path], run: Run, ok: Ok, monkeypatch: pytest.MonkeyPatch):
    command = ["merge", *parts, "--into", "book", "--batch", 1]
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        result = run(*command, "--json")
    assert result.exit_code == 130
    assert "Interrupted: 2 of 4 edits are done and saved. The same command again continues." in result.stderr
    assert json.loads(result.stdout)["interrupted"] is True
    document = ok(*command)
    assert [item["action"] for item in document["receipts"]] == ["unchanged", "unchanged", "added", "added"]
    assert list(stored(Path("book"))) == [edit["prompt"] for edit in [*EDITS, OTHER]]


def test_parts_that_do_not_belong(parts: list[Path], run: Run, ok: Ok, new: list[str], tmp_path: Path):
    ok("edit", file_of(RIVAL), "--into", "three", *new, "--set", "start=uniform")
    result = run("merge", *parts, "three", "--into", "book")
    assert result.exit_code == 1
    assert "three was made with start='uniform', not 'zero'" in result.stderr
    assert "three was made with start" in run("merge", "three", "--into", "one").stderr
    other = ["--model", str(save_model(tmp_path / "other", seed=1, steps=0)), *new[2:]]
    ok("edit", file_of(RIVAL), "--into", "four", *other)
    result = run("merge", "two", "four", "--into", "book")
    assert result.exit_code == 1
    assert "four was made for another model" in result.stderr
    result = run("merge", "two", "nowhere", "--into", "book")
    assert "nowhere does not exist" in result.stderr
    assert not Path("book").exists()
    assert len(stored(Path("one"))) == 2


@pytest.mark.usefixtures("parts")
def test_parts_without_edits(run: Run, ok: Ok):
    ok("undo", "one")
    result = run("merge", "one", "--into", "book")
    assert result.exit_code == 1
    assert "one: there are no active edits, so nothing was applied" in result.stderr
    assert not Path("book").exists()
    assert run("merge", "--into", "book").exit_code == 2


def test_values_of_another_storage(parts: list[Path], ok: Ok, run: Run, new: list[str]):
    ok("edit", file_of(OTHER), "--into", "small", *new, "--set", "value_storage=int8")
    result = run("merge", "small", *parts, "--into", "book")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: one was made with value_storage='bfloat16', not 'int8'")
    assert not Path("book").exists()
    ok("merge", "small", "--into", "book")
    for name in ("values", "value_scales"):
        assert torch.equal(*(read_folder(Path(folder)).tensors[name] for folder in ("small", "book")))
