"""Folders of the cache: made once, whole or not at all, and never taken for whole when they are not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from horen.errors import ModelError
from horen.model.zoo.cache import CachedFolder, Report, cache_dir, is_disk_full
from support.fetching import leftovers

MANIFEST = "horen-manifest.json"
FILES = {"data.bin": b"some data", "more.json": b"{}"}


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CachedFolder:
    """A folder of an empty cache."""
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    facts = {"layout": 3, "wheels": {"thing==1.0": "00" * 32}, "about": "a thing"}
    return CachedFolder(
        "things", "thing", facts, "Nobody made this.\n", required=("data.bin",), room=1000, treatment="written"
    )


class Builder:
    """Writes FILES; counts how often."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, work: Path, made: Path, report: Report) -> None:
        self.calls += 1
        report.phase("Writing")
        (work / "draft").write_bytes(b"not kept")
        for name, data in FILES.items():
            (made / name).write_bytes(data)
            (made / name).chmod(0o600)
        if self.error is not None:
            raise self.error


def test_a_folder_is_made_once_and_sealed(entry: CachedFolder, capfd: pytest.CaptureFixture[str]):
    build = Builder()
    assert not entry.is_whole()
    assert entry.fetch(build) == entry.path == cache_dir() / "things" / "thing"
    assert entry.is_whole()
    assert {path.name for path in entry.path.iterdir()} == {*FILES, "NOTICE", MANIFEST}
    assert (entry.path / "NOTICE").read_text(encoding="utf-8") == "Nobody made this.\n"
    manifest = json.loads((entry.path / MANIFEST).read_text(encoding="utf-8"))
    assert list(manifest) == [*entry.manifest, "files"]
    assert manifest["about"] == "a thing"
    assert sorted(manifest["files"]) == sorted([*FILES, "NOTICE"])
    for name, data in FILES.items():
        assert manifest["files"][name] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert entry.fetch(build) == entry.path
    assert build.calls == 1
    assert leftovers(entry.path) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="file modes")
def test_a_shared_cache_is_readable_as_the_umask_says(entry: CachedFolder):
    old = os.umask(0o022)
    try:
        folder = entry.fetch(Builder())
    finally:
        os.umask(old)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_whole_folder_is_given_without_lock_or_writing(entry: CachedFolder, monkeypatch: pytest.MonkeyPatch):
    entry.fetch(Builder())
    with FileLock(entry.path.with_name(".thing.lock")):
        monkeypatch.setattr(Path, "mkdir", lambda *_a, **_k: pytest.fail("wrote to the cache"))
        assert entry.fetch(Builder()) == entry.path


@pytest.mark.parametrize("damage", ["truncated", "file gone", "half a manifest", "no manifest", "a list", "a file"])
def test_damage_is_noticed_and_made_anew(entry: CachedFolder, damage: str):
    folder = entry.fetch(Builder())
    manifest = folder / MANIFEST
    if damage == "truncated":
        os.truncate(folder / "data.bin", 4)
    elif damage == "file gone":
        (folder / "more.json").unlink()
    elif damage == "half a manifest":
        manifest.write_text('{"layout": 3, "wheels": {', encoding="utf-8")
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "a list":
        manifest.write_text("[3]", encoding="utf-8")
    else:
        shutil.rmtree(folder)
        folder.write_text("not a folder", encoding="utf-8")
    assert not entry.is_whole()
    build = Builder()
    assert entry.fetch(build) == folder
    assert entry.is_whole()
    assert build.calls == 1
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert leftovers(folder) == []


def test_only_layout_wheels_and_required_files_decide(entry: CachedFolder):
    entry.fetch(Builder())
    assert replace(entry, manifest={**entry.manifest, "about": "worded otherwise"}, notice="", room=1).is_whole()
    assert not replace(entry, manifest={**entry.manifest, "layout": 4}).is_whole()
    assert not replace(entry, manifest={**entry.manifest, "wheels": {"thing==1.0": "11" * 32}}).is_whole()
    assert not replace(entry, required=("data.bin", "third.bin")).is_whole()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("no"), ValueError("bug")])
def test_what_interrupts_a_build_leaves_what_was_there(entry: CachedFolder, error: BaseException):
    with pytest.raises(type(error)):
        entry.fetch(Builder(error))
    assert leftovers(entry.path) == []
    assert not entry.path.exists()
    entry.fetch(Builder())
    newer = replace(entry, manifest={**entry.manifest, "layout": 4})
    with pytest.raises(type(error)):
        newer.fetch(Builder(error))
    assert entry.is_whole()
    assert leftovers(entry.path) == []


def test_an_interruption_before_the_rename_leaves_no_folder(entry: CachedFolder, monkeypatch: pytest.MonkeyPatch):
    """The manifest is the last file: all others are there, under their names, when it is written."""
    seen: list[set[str]] = []

    def interrupt(_data: object, stream: SimpleNamespace, **_: object) -> None:
        seen.append({path.name for path in Path(stream.name).parent.iterdir()})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", interrupt)
        with pytest.raises(KeyboardInterrupt):
            entry.fetch(Builder())
    assert seen == [{*FILES, "NOTICE", MANIFEST}]
    assert not entry.path.exists()


def test_leftovers_of_a_killed_process_are_swept(entry: CachedFolder):
    left = entry.path.with_name(".thing.partial-abc")
    (left / "made").mkdir(parents=True)
    of_another = entry.path.with_name(".thing-2.partial-abc")
    of_another.mkdir()
    entry.fetch(Builder())
    assert leftovers(entry.path) == [of_another]


def test_the_second_waits_for_the_first(entry: CachedFolder, capfd: pytest.CaptureFixture[str]):
    build, started, go_on = Builder(), threading.Event(), threading.Event()

    def slow(work: Path, made: Path, report: Report) -> None:
        build(work, made, report)
        started.set()
        assert go_on.wait(60)

    first = threading.Thread(target=entry.fetch, args=(slow,))
    first.start()
    assert started.wait(60)
    second = threading.Thread(target=entry.fetch, args=(slow,), kwargs={"progress": True})
    second.start()
    second.join(0.3)
    assert second.is_alive()
    go_on.set()
    first.join(60)
    second.join(60)
    assert build.calls == 1
    assert entry.is_whole()
    assert "Waiting for another process that is fetching thing" in capfd.readouterr().err


def test_a_cache_that_cannot_be_written_is_said(entry: CachedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "occupied").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "occupied"))
    build = Builder()
    assert not entry.is_whole()
    with pytest.raises(ModelError, match=r"cache .*occupied cannot be written \(.*\), so 'thing' .*HOREN_CACHE"):
        entry.fetch(build)
    assert build.calls == 0
    assert not entry.remove()


def test_a_file_system_without_locks_is_said(entry: CachedFolder, monkeypatch: pytest.MonkeyPatch):
    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with pytest.raises(ModelError, match=r"cannot be written \(no locks here\)"):
        entry.fetch(Builder())


def test_a_full_disk_is_said(entry: CachedFolder, monkeypatch: pytest.MonkeyPatch):
    sentence = r"disk of the model cache .* is full: 'thing' needs about 0\.0 GB while it is written; free some space"
    with pytest.raises(ModelError, match=sentence):
        entry.fetch(Builder(OSError(errno.ENOSPC, "full")))
    assert leftovers(entry.path) == []
    build = Builder()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
        with pytest.raises(ModelError, match=sentence):
            entry.fetch(build)
    assert build.calls == 0


def test_what_tells_a_full_disk():
    assert is_disk_full(OSError(errno.ENOSPC, "x"))
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(PermissionError(errno.EACCES, "x"))


def test_remove(entry: CachedFolder):
    assert not entry.remove()
    entry.fetch(Builder())
    left = entry.path.with_name(".thing.partial-left")
    left.mkdir()
    assert entry.remove()
    assert not entry.path.exists()
    assert leftovers(entry.path) == []
    left.mkdir()
    assert not entry.remove()
    assert leftovers(entry.path) == []
