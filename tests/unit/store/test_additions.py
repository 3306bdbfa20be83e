"""Saves that write what is new alone: a reader finds what a write of all would give, whatever happens between."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_states import NAMES, denied, fault, in_child, listing, needs_fork, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from horen.errors import MismatchError, StoreError
from horen.store import Begun, Known, additions, read_folder, write_folder
from horen.store.tensors import joined

GROWS = ("keys", "numbers")


def state(records: int, rows: int, *, name: str = "first") -> dict[str, Any]:
    """One of a row of states, each of which has what the one before it has."""
    return {
        "config": {"records": records, "name": name},
        "records": [{"id": i, "prompt": f"p{i}\u2028"} for i in range(records)],
        "tensors": {
            "keys": torch.arange(rows * 40).reshape(rows, 40).float(),
            "numbers": torch.arange(rows),
            "mean": torch.ones(3),
        },
    }


def save(path: Path, known: Known | None, records: int, rows: int, **options: Any) -> set[str]:
    """Write a state; the files that came or changed."""
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()} if path.exists() else {}
    write_folder(path, **state(records, rows, **options), known=known, grows=GROWS)
    now = {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()}
    return {name for name in now if now[name] != before.get(name)} - {".lock", "README.md"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Folders as small as these get additions too, and may grow to twice their size."""
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 1.0)
    return


def test_only_what_is_new_is_written(tmp_path: Path):
    known: Known = {}
    assert save(tmp_path, known, 20, 20) == set(NAMES)
    assert save(tmp_path, known, 21, 22) == {"config.json", "edits.added-1.jsonl", "codebook.added-1.safetensors"}
    assert save(tmp_path, known, 22, 22) == {"config.json", "edits.added-2.jsonl"}
    assert save(tmp_path, known, 23, 23) == {"config.json", "edits.added-3.jsonl", "codebook.added-3.safetensors"}
    assert same(read_folder(tmp_path), state(23, 23))
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 4
    assert len((tmp_path / "edits.added-2.jsonl").read_bytes().splitlines()) == 1


def test_whoever_read_the_folder_may_go_on_with_it(tmp_path: Path):
    save(tmp_path, {}, 20, 20)
    folder = read_folder(tmp_path)
    known: Known = {folder.mark: Begun.of(folder.records, folder.tensors)}
    assert "edits.jsonl" not in save(tmp_path, known, 21, 21)
    assert same(read_folder(tmp_path), state(21, 21))


@pytest.mark.parametrize(
    "change",
    [
        lambda now: now["tensors"].update(other=torch.ones(1)),
        lambda now: now["tensors"].pop("numbers"),
        lambda now: now["tensors"].update(mean=torch.ones(4)),
        lambda now: now["tensors"].update(keys=torch.ones(21, 41)),
        lambda now: now["tensors"].update(keys=torch.ones(19, 40)),
        lambda now: now.update(records=now["records"][:5]),
    ],
    ids=["another tensor", "a tensor less", "one that does not grow", "wider rows", "fewer rows", "fewer records"],
)
def test_what_is_more_than_growth_is_written_as_a_whole(tmp_path: Path, change: Any):
    known: Known = {}
    save(tmp_path, known, 20, 20)
    save(tmp_path, known, 21, 21)
    now = state(21, 21)
    change(now)
    write_folder(tmp_path, **now, known=known, grows=GROWS)
    assert same(read_folder(tmp_path), now)
    assert listing(tmp_path) == {*NAMES, "README.md"} or listing(tmp_path) == set(NAMES)
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 2


def test_unknown_content_is_written_as_a_whole(tmp_path: Path):
    save(tmp_path, {}, 20, 20)
    assert set(NAMES) <= save(tmp_path, None, 21, 21)
    folder = read_folder(tmp_path)
    assert set(NAMES) <= save(tmp_path, {folder.mark: None}, 22, 22)


def test_many_or_large_additions_become_one_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(additions, "_MOST", 3)
    known: Known = {}
    save(tmp_path, known, 20, 20)
    for number in (21, 22, 23):
        save(tmp_path, known, number, 20)
        assert listing(tmp_path) >= {f"edits.added-{number - 20}.jsonl"}
    assert set(NAMES) <= save(tmp_path, known, 24, 20)
    assert not [name for name in listing(tmp_path) if "added" in name]
    assert "edits.jsonl" not in save(tmp_path, known, 25, 25)
    assert set(NAMES) <= save(tmp_path, known, 26, 90)
    assert same(read_folder(tmp_path), state(26, 90))


def test_a_small_folder_stays_three_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    known: Known = {}
    save(tmp_path, known, 20, 20)
    assert set(NAMES) <= save(tmp_path, known, 21, 21)


def test_a_shortened_file_is_not_built_upon(tmp_path: Path):
    known: Known = {}
    save(tmp_path, known, 20, 20)
    (tmp_path / "edits.jsonl").write_bytes(b"")
    assert set(NAMES) <= save(tmp_path, known, 21, 21)
    assert same(read_folder(tmp_path), state(21, 21))


@pytest.mark.parametrize("name", ["edits.added-1.jsonl", "codebook.added-1.safetensors"])
def test_damage_of_an_addition_is_noticed(tmp_path: Path, name: str):
    known: Known = {}
    save(tmp_path, known, 20, 20)
    save(tmp_path, known, 21, 21)
    content = (tmp_path / name).read_bytes()
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        (tmp_path / name).write_bytes(altered)
        with pytest.raises(StoreError, match=f"{name} is truncated or was altered"):
            read_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["../edits.jsonl", "edits.added-0.jsonl", "edits.added-1.safetensors", "notes.txt"])
def test_no_other_file_is_named(tmp_path: Path, name: str):
    save(tmp_path, {}, 2, 2)
    document = json.loads((tmp_path / "config.json").read_text())
    document["files"][name] = document["files"]["edits.jsonl"]
    del document["checksum"]
    plain = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    document["checksum"] = hashlib.sha256(plain.encode()).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="it describes '"):
        read_folder(tmp_path)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="rows of keys that do not fit"):
        joined(tmp_path, [{"keys": torch.ones(2, 3)}, {"keys": torch.ones(2, 4)}])
    with pytest.raises(StoreError, match="rows of more that do not fit"):
        joined(tmp_path, [{"keys": torch.ones(2, 3)}, {"more": torch.ones(2, 3)}])


def test_a_release_that_knows_no_additions_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known: Known = {}
    save(tmp_path, known, 20, 20)
    save(tmp_path, known, 21, 21)
    monkeypatch.setattr("horen.store.content.FORMAT", 3)
    with pytest.raises(MismatchError, match=r"writes format 4; this is horen .*, which knows format 3"):
        read_folder(tmp_path)


def found(path: Path) -> str:
    folder = read_folder(path)
    for name, wanted in (("old", state(20, 20)), ("new", state(23, 24))):
        if same(folder, wanted):
            return name
    assert same(folder, state(22, 22))
    return "between"


def start(path: Path, how: str) -> Known:
    known: Known = {}
    save(path, known, 20, 20)
    if "additions" in how:
        save(path, known, 22, 22)
    if "leftovers" in how:
        # What killed writes may leave: an addition that was staged, and files of a whole write.
        for name in ("edits.added-1.jsonl.next", "edits.jsonl.next", "codebook.safetensors.next", "config.json.draft"):
            (path / name).write_bytes(b"half of somethi")
        (path / "codebook.added-7.safetensors").write_bytes(b"of an addition that is in the first files by now")
    if "committed" in how:
        names = json.loads((path / "config.json").read_text())["files"]
        for name in ("config.json", *(name for name in names if "added" in name)):
            (path / name).rename(path / f"{name}.next")
    return known


STARTS = ("old", "leftovers", "additions", "additions, leftovers", "additions, committed only")


def check_recovery(path: Path) -> str:
    now = found(path)
    folder = read_folder(path)
    known: Known = {folder.mark: Begun.of(folder.records, folder.tensors)}
    save(path, known, 25, 25)
    assert same(read_folder(path), state(25, 25))
    listed = set(json.loads((path / "config.json").read_text())["files"])
    assert listing(path) - {"README.md"} == {"config.json", *listed}
    save(path, None, 26, 26)
    assert listing(path) - {"README.md"} == set(NAMES)
    return now


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["error", "interrupt"])
@pytest.mark.parametrize("how", STARTS)
def test_an_error_or_interrupt_at_any_step(tmp_path: Path, how: str, kind: str, after: bool):
    def fail() -> None:
        if kind == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        raise KeyboardInterrupt

    known = start(tmp_path / "0", how)
    with fault(0, lambda: None, after=False) as count:
        save(tmp_path / "0", known, 23, 24)
    assert count[0] > 10
    for at in range(1, count[0] + 1):
        path = tmp_path / str(at)
        known, message = start(path, how), ""
        with fault(at, fail, after=after), suppress(KeyboardInterrupt):
            try:
                write_folder(path, **state(23, 24), known=known, grows=GROWS)
            except StoreError as error:
                message = str(error)
        # The caller that noticed nothing, and one that was told, may both save again from what they know.
        now = found(path)
        if kind == "error":
            assert (now == "new") == (not message or "holds the new state" in message)
        write_folder(path, **state(23, 24), known=known, grows=GROWS)
        assert found(path) == "new"
        check_recovery(path)


@needs_fork
@pytest.mark.parametrize("how", STARTS)
def test_a_kill_at_any_step(tmp_path: Path, how: str):
    known = start(tmp_path / "0", how)
    with fault(0, lambda: None, after=False) as count:
        save(tmp_path / "0", known, 23, 24)

    def killed(path: Path, at: int, known: Known) -> None:
        with fault(at, lambda: os._exit(9), after=False):
            write_folder(path, **state(23, 24), known=known, grows=GROWS)

    seen = set()
    for at in range(1, count[0] + 1):
        path = tmp_path / str(at)
        known = start(path, how)
        assert in_child(lambda path=path, at=at, known=known: killed(path, at, known)) == 9  # type: ignore[misc]
        seen.add(check_recovery(path))
    assert seen == {"new", "between" if "additions" in how else "old"}


def test_a_leftover_that_cannot_be_removed_stops_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known: Known = {}
    save(tmp_path, known, 20, 20)
    (tmp_path / "edits.jsonl.next").write_bytes(b"of a write that never happened")
    with denied(monkeypatch, "edits.jsonl.next"), monkeypatch.context() as patch:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        patch.setattr(os, "unlink", refuse)
        with pytest.raises(StoreError, match="the state that it holds is intact"):
            save(tmp_path, known, 21, 21)
    assert same(read_folder(tmp_path), state(20, 20))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["go on", "read", "forget"]))))
def test_any_row_of_saves_reads_as_one_write(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, str]]
):
    path, known, records, rows = tmp_path_factory.mktemp("row"), Known(), 5, 5
    save(path, known, records, rows)
    for more_records, more_rows, how in steps:
        if how == "read":
            folder = read_folder(path)
            known = {folder.mark: Begun.of(folder.records, folder.tensors)}
        elif how == "forget":
            known = dict.fromkeys(known)
        records, rows = records + more_records, rows + more_rows
        save(path, known, records, rows, name=f"{records}")
        assert same(read_folder(path), state(records, rows, name=f"{records}"))
