"""``horen models`` with GGUF files of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import Ok, Run

from horen.model.zoo.embedded import EMBEDDED
from support.gguf_files import PARAMETERS, write_gguf


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    return write_gguf(tmp_path / "tiny.gguf")


def test_a_file_is_converted_listed_and_removed(run: Run, ok: Ok, file: Path):
    given = run("models", "--fetch", "tiny.gguf")
    assert given.exit_code == 0, given.stderr
    assert "Converting tiny.gguf to bfloat16 (once)" in given.stderr
    folder = Path(given.stdout.removeprefix("tiny.gguf is in ").strip())
    assert (folder / "model.safetensors").exists()

    found = ok("models")
    assert [item["name"] for item in found] == [*EMBEDDED, folder.name]
    assert set(found[-1]) == set(found[0])
    assert found[-1]["file"] == str(file)
    assert found[-1]["parameters"] == PARAMETERS
    assert found[-1]["cached"] is found[-1]["chat"] is True
    assert [item["weights"] for item in found] == ["float32", "float32", "bfloat16", "bfloat16"]
    text = run("models").stdout
    assert f"{folder.name} (cached)\n  converted from {file} (sha256 " in text

    assert ok("models", "--remove", folder.name) == {"name": folder.name, "removed": True}
    assert not folder.exists()
    assert ok("models", "--fetch", "tiny.gguf") == {"name": "tiny.gguf", "folder": str(folder)}
    assert run("models", "--remove", "tiny.gguf").stdout == "tiny.gguf was removed.\n"
    assert run("models", "--remove", "tiny.gguf").stdout == "tiny.gguf was not in the cache.\n"
    assert len(ok("models")) == len(EMBEDDED)


def test_what_cannot_be_converted_is_one_line(run: Run, file: Path):
    file.write_bytes(b"text")
    given = run("models", "--fetch", "tiny.gguf")
    assert (given.exit_code, given.stdout) == (1, "")
    assert given.stderr.startswith(f"Error: The file '{file}' cannot be used as a model (it does not begin like")
    assert "no embedded model named 'nothing'" in run("models", "--remove", "nothing").stderr
