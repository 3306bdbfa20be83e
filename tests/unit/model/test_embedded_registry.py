"""What is on offer, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from horen.errors import ModelError
from horen.model import embedded
from horen.model.embedded import EMBEDDED


def test_registry_is_consistent():
    assert set(EMBEDDED) == {"smollm2-135m-instruct", "gemma-3-270m"}
    for name, entry in EMBEDDED.items():
        assert entry.name == name
        assert entry.license
        assert entry.license_url.startswith("https://")
        assert entry.notice
        assert entry.disk_bytes > entry.download_bytes > 50_000_000
        for wheel in entry.wheels:
            assert len(bytes.fromhex(wheel.sha256)) == 32
            assert wheel.filename.startswith(wheel.member.split("/")[0])
        assert len(bytes.fromhex(entry.gguf_sha256)) == 32
        assert len({wheel.sha256 for wheel in entry.wheels}) == len(entry.wheels)
    assert EMBEDDED["smollm2-135m-instruct"].chat
    assert not EMBEDDED["gemma-3-270m"].chat
    assert "gemma/terms" in EMBEDDED["gemma-3-270m"].license_url
    with pytest.raises(TypeError):
        EMBEDDED["more"] = EMBEDDED["gemma-3-270m"]


@pytest.mark.parametrize("ask", [embedded.fetch, embedded.is_cached, embedded.remove])
def test_unknown_name_lists_the_known_ones(ask: Callable[[str], object]):
    with pytest.raises(ModelError, match=r"'gpt-9'.*smollm2-135m-instruct, gemma-3-270m"):
        ask("gpt-9")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path))
    assert embedded.cache_dir() == tmp_path
    monkeypatch.setenv("HOREN_CACHE", "~/somewhere")
    assert embedded.cache_dir() == Path.home() / "somewhere"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOREN_CACHE", "here")
    assert embedded.cache_dir() == tmp_path / "here"
    monkeypatch.setenv("HOREN_CACHE", " ")
    assert embedded.cache_dir().name.lower() in {"horen", "cache"}
