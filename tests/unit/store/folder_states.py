"""States of a folder that the tests of storage share, and ways to disturb the disk under it."""

# Stand-ins for functions of the system take whatever those take.

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from horen.errors import StoreError
from horen.store import Folder, read_folder, write_folder

NAMES = ("config.json", "edits.jsonl", "codebook.safetensors")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def state(number: int) -> dict[str, Any]:
    return {
        "config": {"number": number, "name": "Zürich"},
        "records": [{"id": i, "prompt": f"p{number}\u2028", "target": "é"} for i in range(number)],
        "tensors": {"keys": torch.full((number, 3), float(number)), "empty": torch.empty(0, 4)},
    }


def same(folder: Folder, expected: dict[str, Any]) -> bool:
    return (
        folder.config == expected["config"]
        and folder.records == expected["records"]
        and folder.tensors.keys() == expected["tensors"].keys()
        and all(torch.equal(folder.tensors[name], tensor) for name, tensor in expected["tensors"].items())
    )


def listing(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()} - {".lock"}


class FaultyHandle:
    """A file whose write stops half way."""

    def __init__(self, handle: Any, step: Callable[[Callable[[], Any]], Any]) -> None:
        self.handle = handle
        self.step = step

    def __enter__(self) -> FaultyHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)

    def write(self, content: bytes) -> None:
        half = len(content) // 2
        self.handle.write(content[:half])
        self.step(lambda: self.handle.write(content[half:]))


@contextmanager
def fault(at: int, fail: Callable[[], None], *, after: bool) -> Iterator[list[int]]:
    """Call ``fail`` before or after the ``at``-th operation on the disk; count them all."""
    count = [0]
    watched: list[tuple[Any, str]] = [(os, "open"), (os, "fsync"), (os, "replace"), (os, "unlink"), (io, "open")]
    originals = {(module, name): getattr(module, name) for module, name in watched}

    def step(operation: Callable[[], Any]) -> Any:
        count[0] += 1
        due = count[0] == at
        if due and not after:
            fail()
        result = operation()
        if due:
            fail()
        return result

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            if str(args[0]).endswith(".lock"):
                return original(*args, **options)
            result = step(lambda: original(*args, **options))
            return FaultyHandle(result, step) if "xb" in args[1:] else result

        return wrapper

    for (module, name), original in originals.items():
        setattr(module, name, wrap(original))
    try:
        yield count
    finally:
        for (module, name), original in originals.items():
            setattr(module, name, original)


def start(path: Path, how: str) -> None:
    """Bring a folder into one of the states that a write may find."""
    if how == "empty":
        path.mkdir()
        return
    write_folder(path, **state(2))
    if how == "old, committed only":
        for name in NAMES:
            (path / name).rename(path / f"{name}.next")
    elif how == "old, half rolled forward":
        (path / NAMES[2]).rename(path / f"{NAMES[2]}.next")
        (path / NAMES[0]).rename(path / f"{NAMES[0]}.next")
        (path / NAMES[2]).write_bytes(b"older")
        (path / NAMES[0]).write_bytes(b"{}")
    elif how == "old, with leftovers":
        for name in ("edits.jsonl.next", "codebook.safetensors.next", "config.json.draft"):
            (path / name).write_bytes(b"half of somethi")


STARTS = ("empty", "old", "old, committed only", "old, half rolled forward", "old, with leftovers")


def found(path: Path) -> str:
    """Which state a reader sees."""
    if not any((path / name).exists() for name in ("config.json", "config.json.next")):
        with pytest.raises(StoreError, match="holds no codebook"):
            read_folder(path)
        return "empty"
    folder = read_folder(path)
    if same(folder, state(2)):
        return "old"
    assert same(folder, state(3))
    return "new"


def in_child(act: Callable[[], None]) -> int:
    """Run in a forked process that ends without any clean-up."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def denied(monkeypatch: pytest.MonkeyPatch, ending: str) -> Iterator[None]:
    """Make the system refuse paths with this ending; permissions do not stop the superuser."""
    with monkeypatch.context() as patch:
        for module, name in ((os, "open"), (io, "open"), (os, "mkdir")):
            original = getattr(module, name)

            def refuse(*args: Any, original: Any = original, **options: Any) -> Any:
                if str(args[0]).endswith(ending):
                    raise PermissionError(errno.EACCES, "Permission denied")
                return original(*args, **options)

            patch.setattr(module, name, refuse)
        yield
