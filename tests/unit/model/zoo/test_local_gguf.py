"""GGUF files of the user's own: converted once for what they hold, alone, and whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from horen.errors import ModelError
from horen.model.zoo import gguf as _gguf
from horen.model.zoo import local_gguf
from horen.model.zoo.cache import cache_dir
from support.fetching import leftovers
from support.gguf_files import PARAMETERS, write_gguf


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GGUF file, with an empty cache."""
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    return write_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A converter that only writes a word; what it is asked for."""
    asked: list[str] = []

    def convert(gguf: Path, out: Path, dtype: str) -> None:
        asked.append(dtype)
        (out / "config.json").write_bytes(gguf.read_bytes()[:4])

    monkeypatch.setattr(_gguf, "convert", convert)
    return asked


def nothing_left() -> bool:
    place = cache_dir() / "gguf"
    return not place.exists() or all(path.name.endswith(".lock") for path in place.iterdir())


# --- what comes of a file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["bfloat16", "float32"])
def test_a_file_is_converted_as_transformers_reads_it(file: Path, weights: str, capfd: pytest.CaptureFixture[str]):
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    folder = local_gguf.convert(str(file), weights)
    assert capfd.readouterr() == ("", "")
    assert folder == cache_dir() / "gguf" / f"{sha256[:16]}-{weights}"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    manifest = json.loads((folder / "horen-manifest.json").read_text(encoding="utf-8"))
    assert list(manifest) == ["layout", "name", "file", "gguf_sha256", "weights", "parameters", "files"]
    assert manifest["gguf_sha256"] == sha256
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    assert f"from tiny.gguf (sha256 {sha256}) to {weights} safetensors" in notice
    assert leftovers(folder) == []

    kind = getattr(torch, weights)
    auto = AutoModelForCausalLM
    model = auto.from_pretrained(folder)
    original = auto.from_pretrained(file.parent, gguf_file=file.name, dtype=kind)
    assert model.dtype is kind
    assert model.num_parameters() == PARAMETERS == manifest["parameters"]
    ids = AutoTokenizer.from_pretrained(folder)("the other thing", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(original(ids).logits, model(ids).logits)


def test_the_content_decides_not_the_name(file: Path, calls: list[str]):
    folder = local_gguf.convert(str(file))
    assert local_gguf.convert(str(file)) == folder
    moved = file.rename(file.with_name("moved.GGUF"))
    assert local_gguf.convert(str(moved)) == folder
    assert calls == ["bfloat16"]
    assert local_gguf.convert(str(moved), "float16") != folder
    write_gguf(moved, seed=1)
    assert local_gguf.convert(str(moved)) != folder
    assert calls == ["bfloat16", "float16", "bfloat16"]


def test_a_like_hash_is_not_taken_for_the_same(file: Path, calls: list[str]):
    """The name has the first digits only."""
    folder = local_gguf.convert(str(file))
    manifest = json.loads((folder / "horen-manifest.json").read_text(encoding="utf-8"))
    manifest["gguf_sha256"] = manifest["gguf_sha256"][:-1] + "x"
    (folder / "horen-manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert local_gguf.convert(str(file)) == folder
    assert len(calls) == 2


def test_what_lies_beside_a_file_is_not_read(file: Path):
    """transformers would read all of these from a model's folder."""
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "adapter_config.json"):
        (file.parent / name).write_text('{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}', encoding="utf-8")
    (file.parent / "evil.py").write_text("raise SystemExit('run')", encoding="utf-8")
    folder = local_gguf.convert(str(file))
    assert "auto_map" not in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    assert AutoTokenizer.from_pretrained(folder)("the").input_ids


@pytest.mark.parametrize("links", ["hard", "none"])
def test_a_system_without_links(file: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, links: str):
    def refused(*_: object) -> None:
        raise OSError("a privilege is needed")

    monkeypatch.setattr(Path, "symlink_to", refused)
    if links == "none":
        monkeypatch.setattr(Path, "hardlink_to", refused)
    assert (local_gguf.convert(str(file)) / "config.json").read_bytes() == b"GGUF"
    assert file.exists()
    assert calls


@pytest.mark.usefixtures("calls")
def test_progress_goes_to_stderr_only(file: Path, capfd: pytest.CaptureFixture[str]):
    local_gguf.convert(str(file), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Checking tiny.gguf" in err
    assert "Converting tiny.gguf to bfloat16 (once)" in err


def test_the_second_waits_for_the_first(file: Path, monkeypatch: pytest.MonkeyPatch):
    started, go_on, calls = threading.Event(), threading.Event(), []

    def slow(_gguf: Path, out: Path, _dtype: str) -> None:
        calls.append(out)
        started.set()
        assert go_on.wait(60)
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(_gguf, "convert", slow)
    found: list[Path] = []
    both = [threading.Thread(target=lambda: found.append(local_gguf.convert(str(file)))) for _ in range(2)]
    both[0].start()
    assert started.wait(60)
    both[1].start()
    both[1].join(0.3)
    assert both[1].is_alive()
    go_on.set()
    for thread in both:
        thread.join(60)
    assert len(calls) == 1
    assert len(set(found)) == 1


# --- what is refused ---------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        local_gguf.convert(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert nothing_left()
    return message


def test_no_file(file: Path):
    assert "does not exist; check the path" in refusal(file.with_name("other.gguf"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"GGUF\x03\x00\x00\x00"])
def test_no_gguf(file: Path, calls: list[str], content: bytes):
    file.write_bytes(content)
    assert "give a GGUF file of a language model, or a folder" in refusal(file)
    assert not calls


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="file modes")
def test_a_file_that_may_not_be_read(file: Path):
    file.chmod(0)
    assert "Permission denied" in refusal(file)


def test_an_error_of_reading_is_told_with_its_reason(file: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local_gguf, "_digest", broken)
    assert "cannot be used as a model (Input/output error)" in refusal(file)


def test_what_would_fail_late_is_refused_at_once(file: Path, calls: list[str]):
    write_gguf(file, tokenizer=False)
    assert "holds no tokenizer" in refusal(file)
    write_gguf(file, parts=4)
    assert "is one of 4 parts" in refusal(file)
    write_gguf(file)
    file.write_bytes(file.read_bytes()[:-1234])
    assert "1,234 bytes of its weights are missing" in refusal(file)
    assert not calls


def test_an_unknown_architecture(file: Path):
    message = refusal(write_gguf(file, architecture="thinkalot"))
    assert "(architecture 'thinkalot') cannot be converted (GGUF model with architecture thinkalot" in message
    assert "upgrade transformers" in message


def test_a_model_that_answers_no_prompts(file: Path):
    """transformers names every class that it knows of; one line is enough."""
    assert len(refusal(write_gguf(file, architecture="t5encoder"))) < 900


def test_missing_weights(file: Path):
    # The reader finds tensors by name, so one that is renamed (to the same length) is missing.
    file.write_bytes(file.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.fxx_up.weight"))
    assert "the file has no weights for" in refusal(file)


def test_a_full_disk(file: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch):
    sentence = r"disk of the model cache .* is full: 'tiny.gguf' needs about .* GB"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * PARAMETERS))
        with pytest.raises(ModelError, match=sentence):
            local_gguf.convert(str(file))
    assert not calls

    def full(_gguf: Path, out: Path, _dtype: str) -> None:
        (out / "config.json").write_text("{}")
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(_gguf, "convert", full)
    with pytest.raises(ModelError, match=sentence):
        local_gguf.convert(str(file))
    assert nothing_left()


def test_ctrl_c_leaves_nothing(file: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch):
    def interrupted(_gguf: Path, out: Path, _dtype: str) -> None:
        (out / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_gguf, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            local_gguf.convert(str(file))
    assert nothing_left()
    assert file.exists()
    assert local_gguf.convert(str(file)).is_dir()
    assert calls


def test_a_file_that_changes_meanwhile(file: Path, monkeypatch: pytest.MonkeyPatch):
    def convert(_gguf: Path, out: Path, _dtype: str) -> None:
        (out / "config.json").write_text("{}")
        write_gguf(file, seed=2)
        os.utime(file, ns=(1, 1))

    monkeypatch.setattr(_gguf, "convert", convert)
    assert "was changed while it was converted" in refusal(file)


# --- what is kept ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("calls")
def test_stored_and_removed(file: Path):
    assert local_gguf.stored() == []
    assert not local_gguf.remove(str(file))
    folders = [local_gguf.convert(str(file), weights) for weights in ("float32", "bfloat16")]
    other = local_gguf.convert(str(write_gguf(file.with_name("other.gguf"), seed=1)))
    found = local_gguf.stored()
    assert [item.name for item in found] == [other.name, *sorted(folder.name for folder in folders)]
    assert found[1].file == file
    assert found[1].parameters == PARAMETERS
    assert found[1].disk_bytes == sum((folders[1] / name).stat().st_size for name in ("config.json", "NOTICE"))

    assert local_gguf.remove(other.name)
    assert not other.exists()
    assert not local_gguf.remove(other.name)
    assert local_gguf.remove(str(file))  # in every type
    assert local_gguf.stored() == []
    assert not any(folder.exists() for folder in folders)
    assert file.exists()


@pytest.mark.usefixtures("calls")
def test_removal_knows_a_file_by_its_path_and_by_its_content(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(file.parent)
    local_gguf.convert("tiny.gguf")
    moved = file.rename(file.with_name("moved.gguf"))
    assert local_gguf.remove("moved.gguf")
    local_gguf.convert("moved.gguf")
    moved.write_bytes(b"no GGUF any more")
    assert local_gguf.remove("moved.gguf")
    write_gguf(moved)
    local_gguf.convert("moved.gguf")
    moved.unlink()
    assert not local_gguf.remove("tiny.gguf")
    assert local_gguf.remove("moved.gguf")


@pytest.mark.usefixtures("calls")
def test_a_damaged_folder_is_not_listed_and_is_made_anew(file: Path):
    folder = local_gguf.convert(str(file))
    for content in ("[1]", "{", json.dumps({"files": {}})):
        (folder / "horen-manifest.json").write_text(content, encoding="utf-8")
        assert local_gguf.stored() == []
    assert local_gguf.convert(str(file)) == folder
    assert len(local_gguf.stored()) == 1
