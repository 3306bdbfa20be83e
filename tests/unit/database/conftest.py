"""Stores to test with: one in a file for each test, and one in PostgreSQL where that is installed."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from horen.database import Store
from horen.store.state import Saved
from support.postgres import Server, postgres, programs
from support.stores import MEMORY, empty_book, made

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A codebook without edits."""
    return empty_book(tmp_path_factory.mktemp("book") / "empty")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres(hasty=True) as running:
        yield running


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: waiting for a disk would take most of the time."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def store(place: Path, book: Saved) -> Iterator[Store]:
    """An empty store in a file."""
    with made(place / "facts.db", book) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, place: Path) -> str:
    """Where a store of each kind can be made."""
    if request.param == "sqlite":
        return str(place / "either.db")
    running: Server = request.getfixturevalue("server")
    return running.database(f"facts{next(_NUMBERS)}")


@pytest.fixture
def either(address: str, book: Saved) -> Iterator[Store]:
    """An empty store of each kind."""
    with made(address, book) as found:
        yield found


@pytest.fixture
def reopened() -> Iterator[Callable[[Store], Store]]:
    """What opens a store once more, as another process would."""
    opened: list[Store] = []

    def again(store: Store) -> Store:
        opened.append(Store.open(store.database.url.render_as_string(hide_password=False)))
        return opened[-1]

    yield again
    for one in opened:
        one.close()
