"""A store with one edit, and a service of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from horen.database import Store
from support.services import Asker, copied, stored


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    stored(folder).close()
    return folder / "facts.db"


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    with copied(template, tmp_path) as found:
        yield found


@pytest.fixture
def service(store: Store) -> Iterator[Asker]:
    """A service without keys, asked from its own machine."""
    with Asker(store) as asker:
        yield asker


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A service for tests that ask very often, and change what they like."""
    with copied(template, tmp_path_factory.mktemp("shared")) as store, Asker(store, rate=10**6) as asker:
        yield asker
