from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from folder_states import NAMES, STARTS, fault, found, in_child, listing, needs_fork, same, start, state

from horen.errors import StoreError
from horen.store import read_folder, write_folder


class KilledError(BaseException):
    pass


def steps_of_a_write(path: Path, how: str) -> int:
    start(path, how)
    with fault(0, lambda: None, after=False) as count:
        write_folder(path, **state(3))
    return count[0]


def check_recovery(path: Path, how: str) -> str:
    """Any reader sees one state, a copy of the folder too, and the next write works and cleans up."""
    now = found(path)
    assert now in ("new", "empty" if how == "empty" else "old")
    write_folder(path, **state(4))
    assert same(read_folder(path), state(4))
    assert listing(path) == set(NAMES)
    return now


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("how", STARTS)
def test_an_error_of_the_system_at_any_step(tmp_path: Path, how: str, code: int, after: bool):
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    total = steps_of_a_write(tmp_path / "0", how)
    assert total > 15
    for at in range(1, total + 1):
        path = tmp_path / str(at)
        start(path, how)
        message = ""
        with fault(at, fail, after=after):
            try:
                write_folder(path, **state(3))
            except StoreError as error:
                message = str(error)
        leftovers = listing(path)
        now = check_recovery(path, how)
        if not message or "holds the new state" in message:
            assert now == "new"
        else:
            assert now != "new"
            if "held before is intact" in message:
                assert leftovers <= set(NAMES) | {"config.json.next"}
        if code == errno.ENOSPC and message and "cannot be read" not in message:
            assert "the disk is full" in message


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", STARTS)
def test_an_interrupt_at_any_step(tmp_path: Path, how: str, after: bool):
    def fail() -> None:
        raise KilledError

    for at in range(1, steps_of_a_write(tmp_path / "0", how) + 1):
        path = tmp_path / str(at)
        start(path, how)
        with fault(at, fail, after=after), suppress(KilledError):
            write_folder(path, **state(3))
        check_recovery(path, how)


@needs_fork
@pytest.mark.parametrize("how", STARTS)
def test_a_kill_at_any_step(tmp_path: Path, how: str):
    def killed_write(path: Path, at: int) -> None:
        with fault(at, lambda: os._exit(9), after=False):
            write_folder(path, **state(3))

    seen = set()
    for at in range(1, steps_of_a_write(tmp_path / "0", how) + 1):
        path = tmp_path / str(at)
        start(path, how)
        assert in_child(lambda path=path, at=at: killed_write(path, at)) == 9  # type: ignore[misc]
        seen.add(check_recovery(path, how))
    assert seen == {"new", "empty" if how == "empty" else "old"}


@needs_fork
def test_a_write_that_the_system_cuts_off(tmp_path: Path):
    resource = pytest.importorskip("resource")
    write_folder(tmp_path, **state(2))
    before = {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}
    big = state(3) | {"tensors": {"keys": torch.zeros(1000, 100)}}

    def act() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_folder(tmp_path, **big)
        except StoreError as error:
            os._exit(3 if "intact" in str(error) else 4)

    assert in_child(act) == 3
    assert {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)} == before


def test_an_incomplete_clean_up_is_no_second_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path, **state(2))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="the disk is full"):
            write_folder(tmp_path, **state(3))
    assert check_recovery(tmp_path, "old") == "old"
