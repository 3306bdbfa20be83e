"""A tiny model, a codebook of it, and the program to run on them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_support import QUICK, Ok, Run, one_thread, run_program, save_model, write_jsonl


@pytest.fixture(scope="session")
def run() -> Run:
    return run_program


@pytest.fixture(scope="session")
def ok() -> Ok:
    """Run the program with --json, which must succeed, and give the document."""

    def call(*args: Any, text: str | None = None) -> Any:
        result = run_program(*args, "--json", text=text)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def made(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codebook that holds EDITS; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    with one_thread():
        given = ("--into", folder / "book", "--model", tiny, "--preset", "activations")
        result = run_program("edit", write_jsonl(folder / "edits.jsonl"), *given)
    assert result.exit_code == 0, result.stderr
    return folder / "book"


@pytest.fixture
def book(made: Path, tmp_path: Path) -> Path:
    """A copy of the codebook for the test alone."""
    return Path(shutil.copytree(made, tmp_path / "book"))


@pytest.fixture
def new(tiny: Path) -> list[str]:
    """Options for a new codebook whose edits are written fast, if not well."""
    return ["--model", str(tiny), *QUICK]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)
