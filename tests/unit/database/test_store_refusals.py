"""What a store refuses, and in which words: addresses, missing and foreign databases, other releases, damage."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from horen.database import By, Query, Store
from horen.database.address import shown, url_of
from horen.database.snapshot import Snapshot
from horen.errors import EditError, MismatchError, StoreError
from horen.store.state import Saved
from support.postgres import Server
from support.stores import ANN, made, publish


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://user:secret@host/name", r"mysql://user:\*\*\*@host/name|none that is known"),
        ("postgresql://user@host", "none that is known"),
        ("postgresql://user@host:port/name", "is no URL"),
        ("http://host/name", "none that is known"),
        ("sqlite:///", "none that is known"),
        ("://", "is no URL"),
    ],
)
def test_an_address_that_is_none(address: str, words: str):
    with pytest.raises(StoreError, match=words) as caught:
        Store.open(address)
    assert "secret" not in str(caught.value)


def test_addresses(tmp_path: Path):
    assert shown(url_of("postgres://user:secret@host/name")) == "postgresql://user:***@host/name"
    assert shown(url_of(tmp_path / "a b%20?.db")) == str(tmp_path / "a b%20?.db")
    assert url_of(f"sqlite:///{tmp_path}/a.db").database == str(tmp_path / "a.db")


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "a?b#c.db", "ü.db"])
def test_a_file_may_be_called_anything(place: Path, book: Saved, name: str):
    with made(place / name, book) as store:
        publish(store, {"a": "b"})
        assert store.feed.wait(-1, 10) == 1
    with Store.open(place / name) as store:
        assert store.version == 1
    assert {path.name for path in place.iterdir()} == {name}


def test_what_is_no_store(place: Path, book: Saved):
    with pytest.raises(StoreError, match=r"There is no store .*missing\.db"):
        Store.open(place / "missing.db")
    assert not (place / "missing.db").exists()
    with pytest.raises(StoreError, match=r"The folder .*nowhere does not exist"):
        made(place / "nowhere" / "facts.db", book)
    (place / "text.db").write_text("no database at all, whatever its name says" * 100)
    with pytest.raises(StoreError, match="the file is damaged or no SQLite database"):
        Store.open(place / "text.db")
    (place / "empty.db").touch()
    with pytest.raises(StoreError, match="holds no store: make one with: horen import"):
        Store.open(place / "empty.db")
    with pytest.raises(StoreError, match="holds no store"):
        Store.upgrade(place / "empty.db")
    with made(place / "empty.db", book) as store:
        assert store.version == 0
    with pytest.raises(StoreError, match="holds a store already"):
        made(place / "empty.db", book)
    with Store.open(place / "empty.db") as store:
        assert store.version == 0


def test_a_file_that_is_gone_is_not_made_anew(store: Store, place: Path):
    store.close()
    for file in place.iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="cannot be opened"):
        store.edits.list()
    assert list(place.iterdir()) == []


def test_what_fails_while_a_store_is_made_leaves_nothing(address: str, book: Saved, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as broken:
        broken.setattr("horen.database.taking_in.save", _broken)
        with pytest.raises(ZeroDivisionError):
            made(address, book)
    with pytest.raises(StoreError, match=r"There is no store|holds no store"):
        Store.open(address)
    with made(address, book) as store:
        assert store.version == 0


def _broken(*_: object) -> bytes:
    raise ZeroDivisionError


def test_a_server_that_is_not_there(server: Server):
    with pytest.raises(StoreError, match=r"^postgresql://horen@127\.0\.0\.1:1/facts cannot be reached"):
        Store.open("postgresql://horen@127.0.0.1:1/facts")
    address = f"postgresql://horen@127.0.0.1:{server.port}/nothing"
    with pytest.raises(StoreError, match='database "nothing" does not exist'):
        Store.open(address)
    with pytest.raises(StoreError, match="holds no store: make one with: horen import"):
        Store.open(server.database("bare"))


@pytest.mark.parametrize("wrong", ["\ud800", "\0"])
def test_what_no_text_can_be_is_not_looked_for(either: Store, wrong: str):
    publish(either, {"a": "b"})
    for query in (Query(text=wrong), Query(tag=wrong), Query(set=wrong), Query(author=wrong), Query(subject=wrong)):
        for call in (either.edits.list, either.edits.count):
            with pytest.raises(EditError, match="that is looked for"):
                call(query)
    for names in ({"tags": [wrong]}, {"without_tags": [wrong]}, {"sets": [wrong]}, {"without_sets": [wrong]}):
        with pytest.raises(EditError, match="that is looked for"):
            either.edits.ids(**names)
    with pytest.raises(EditError):
        either.sets.switch(wrong, True, ANN)
    assert either.version == 1


def test_a_store_of_another_release(either: Store, reopened: Callable[[Store], Store]):
    with either.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001_first_form'"))
    with pytest.raises(MismatchError, match=r"of an older release .* bring it up to date with: horen upgrade STORE"):
        reopened(either)
    with either.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    with pytest.raises(MismatchError, match=r"of a newer release .* pip install --upgrade horen"):
        reopened(either)
    with pytest.raises(MismatchError, match="of a newer release"):
        Store.upgrade(either.database.url.render_as_string(hide_password=False))


def test_a_store_that_may_only_be_read(place: Path, book: Saved):
    """As another user, since root may write everywhere."""
    with made(place / "facts.db", book) as store:
        publish(store, {"a": "b"})
    place.chmod(0o755)
    (place / "facts.db").chmod(0o444)
    place.chmod(0o555)
    code = (
        "import os, sys\n"
        "from horen.database import By, Store\n"
        "from horen.errors import StoreError\n"
        "os.setuid(65534)\n"
        "store = Store.open(sys.argv[1])\n"
        "assert store.edits.ids() == {1} and store.feed.wait(-1, 10) == 1\n"
        "for change in (lambda: store.edits.remove([1], By('a')), lambda: store.keys.make('a', ['ask'], By('a'))):\n"
        "    try:\n"
        "        change()\n"
        "    except StoreError as error:\n"
        "        assert 'it may only be read here' in str(error), error\n"
        "    else:\n"
        "        raise AssertionError\n"
        "print('done')\n"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code, place / "facts.db"], capture_output=True, text=True)
    finally:
        place.chmod(0o755)
    assert done.stdout == "done\n", done.stderr


def test_what_is_altered_is_never_told(place: Path, book: Saved, tmp_path: Path):
    """Bytes anywhere in the file: what is read is right, or it is refused."""
    with made(place / "facts.db", book) as store:
        publish(store, {f"The capital of country {n} is": f"Town {n}" for n in range(8)})
        store.edits.remove([3], By("ann", "a reason in words"))
        right = _told(store, tmp_path / "right")
    content, found = (place / "facts.db").read_bytes(), {"same": 0, "refused": 0}
    chance = random.Random(0)  # noqa: S311
    for number in range(150):
        bytes_ = bytearray(content)
        for _ in range(chance.choice((1, 1, 8))):
            bytes_[chance.randrange(len(bytes_))] ^= 1 << chance.randrange(8)
        damaged = place / f"damaged{number}.db"
        damaged.write_bytes(bytes_)
        try:
            with Store.open(damaged) as store:
                told = _told(store, tmp_path / "told")
            assert told == right
            found["same"] += 1
        except StoreError:
            found["refused"] += 1
        shutil.rmtree(tmp_path / "told", ignore_errors=True)
        damaged.unlink()
    assert found["same"] > 10
    assert found["refused"] > 10


def _told(store: Store, folder: Path) -> list[object]:
    """What engines and people are told."""
    Snapshot(store, folder).follow()
    saved = Saved.read(folder)
    tables = {name: tensor.tolist() for name, tensor in saved.folder.tensors.items()}
    told = [saved.folder.records, tables, saved.folder.config["settings"]]
    return [*told, store.edits.list(), store.versions.list(), store.drafts.list(), store.audit.list()]


def test_a_block_that_is_altered_is_named(store: Store, place: Path, tmp_path: Path):
    publish(store, {"a": "b"})
    store.close()
    with closing(sqlite3.connect(place / "facts.db")) as connection:
        connection.execute("UPDATE block SET content = zeroblob(length(content))")
        connection.commit()
    with Store.open(place / "facts.db") as again, pytest.raises(StoreError, match="Block 1 of the store is damaged"):
        Snapshot(again, tmp_path / "snapshot").follow()
    assert not (tmp_path / "snapshot" / "config.json").exists()
