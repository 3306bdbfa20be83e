"""Migrations: what they make is what the code says, and stores of every form come to the newest one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from horen.database import Facts, Store
from horen.database.migrating import newest
from horen.database.schema import metadata
from horen.database.snapshot import Snapshot
from horen.errors import MismatchError
from horen.store.state import Saved
from support.stores import ANN, publish

#: A store of the first form, as SQLite's own program would dump it.
DUMP = Path(__file__).with_name("first_form.sql")


@pytest.fixture
def first(place: Path) -> Path:
    with closing(sqlite3.connect(place / "first.db")) as connection:
        connection.executescript(DUMP.read_text(encoding="utf-8"))
    return place / "first.db"


def test_the_migrations_make_what_the_code_says(either: Store):
    with either.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert either.about().schema == newest()


def test_a_store_of_the_first_form_comes_to_the_newest(first: Path, tmp_path: Path):
    with pytest.raises(MismatchError, match=r"its last migration is 0001_first_form, and .* horen upgrade STORE"):
        Store.open(first)
    assert Store.upgrade(first) == ("0001_first_form", newest())
    assert Store.upgrade(first) == (newest(), newest())
    with Store.open(first) as store:
        with store.database.reading() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        store.check()
        assert store.version == 5
        assert store.edits.ids() == {1, 2}
        assert store.edits.get(1).facts == Facts(tags=("a", "b"))
        assert (store.edits.get(3).facts, store.edits.get(3).active) == (Facts("the sky", set="red"), False)
        assert store.edits.facets().tags == {"a": 2, "b": 2}
        assert store.versions.number("launch") == 2
        assert [key.name for key in store.keys.list()] == ["mira"]
        assert store.drafts.publish([4], ANN).added == (4,)
        store.versions.rollback(2, ANN)
        publish(store, {"What is new?": "this"})
        Snapshot(store, tmp_path / "snapshot").follow()
        assert {record.id for record in Saved.read(tmp_path / "snapshot").history.active()} == store.edits.ids()
        store.check()


def test_the_dump_is_of_the_first_form():
    assert "INSERT INTO \"alembic_version\" VALUES('0001_first_form')" in DUMP.read_text(encoding="utf-8")
