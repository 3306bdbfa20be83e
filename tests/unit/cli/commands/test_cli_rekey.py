"""horen rekey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import EDITS, Ok, Run, stored

from horen.store import read_folder
from horen.store.state import Saved
from support.encoders import text_settings


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def options(**settings: Any) -> list[str]:
    return [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]


def test_in_place(book: Path, ok: Ok):
    before, edits = read_folder(book), stored(book)
    found = ok("rekey", book, *options(**text_settings(feature_power=1.0, contrast=0.1)))
    assert (found["folder"], found["edits"], found["active"]) == (str(book), len(EDITS), len(EDITS))
    assert set(found["changed"]) == {"read_sites", "encoder", "feature_power", "contrast"}
    after = read_folder(book)
    assert after.records == before.records
    assert torch.equal(after.tensors["values"], before.tensors["values"])
    assert after.tensors["keys"].shape != before.tensors["keys"].shape
    assert stored(book) == edits
    asked = ok("ask", book, EDITS[0]["prompt"], "--explain", "--encoder", text_settings()["encoder"])
    assert EDITS[0]["target"] in str(asked)
    ok("undo", book)
    assert stored(book) == {}


def test_elsewhere(book: Path, run: Run):
    before = files(book)
    result = run("rekey", book, "--set", "threshold=0.6", "--out", "new")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"new: {len(EDITS)} edits of the history have new keys")
    assert "threshold=0.6 (was 0.5)" in result.stdout
    assert files(book) == before
    assert Saved.read("new").config.threshold == 0.6


def test_a_preset_keeps_how_values_were_trained(book: Path, ok: Ok):
    config = Saved.read(book).config
    found = ok("rekey", book, "--preset", "paper", "--set", "read_sites=mlp_hidden@1")
    assert found["changed"]["key_space"] == "raw"
    assert Saved.read(book).config.of_values() == config.of_values()
    assert Saved.read(book).config.preset == "paper"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Nothing is to change"),
        (["--set", "max_steps=3"], "max_steps=3 cannot be: rekeying keeps the values"),
        (["--set", "treshold=3"], "did you mean 'threshold'?"),
        (["--set", "read_sites=auto@50"], "names no layer"),
        (["--set", "read_sites=text", "--set", "encoder=nowhere"], "encoder='nowhere'"),
        (["--set", "threshold=0.6", "--out", "."], "is there already"),
        (["--set", "threshold=0.6", "--model", "gemma-3-270m"], "was made for the model"),
    ],
)
def test_refusals(args: list[str], message: str, book: Path, run: Run):
    before = files(book)
    result = run("rekey", book, *args)
    assert result.exit_code == 1
    assert message in result.stderr
    assert files(book) == before


def test_a_folder_that_is_not_there(run: Run):
    result = run("rekey", "nowhere", "--set", "threshold=0.6")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr
    assert not Path("nowhere").exists()
