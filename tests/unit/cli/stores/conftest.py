"""Stores of the tiny model's codebook, and a cache for the folders that follow them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from horen.database import By, Store
from horen.store.state import Saved
from support.postgres import Server, postgres, programs

_NUMBERS = itertools.count(1)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOGNAME", "ann")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres() as running:
        yield running


@pytest.fixture
def served(server: Server) -> str:
    """The address of an empty database, with a password that the server does not ask for."""
    return server.database(f"program{next(_NUMBERS)}").replace("horen@", "horen:geheim@")


@pytest.fixture(scope="session")
def taken(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the codebook that holds EDITS; not to be changed."""
    file = tmp_path_factory.mktemp("taken") / "facts.db"
    Store.create(file, Saved.read(made), By("ann", "the first ones")).close()
    with Store.open(file) as store:
        store.backup(file.with_name("whole.db"))
    return file.with_name("whole.db")


@pytest.fixture
def facts(taken: Path, tmp_path: Path) -> Path:
    """A copy of the store for the test alone."""
    return Path(shutil.copyfile(taken, tmp_path / "facts.db"))
