"""Models named by a GGUF file: loaded in the type that is asked for, and found again by a saved codebook."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from horen import Edit, Editor, HorenConfig
from horen.errors import ModelError
from horen.model.zoo import gguf as _gguf
from horen.model.zoo import local_gguf
from horen.model.zoo.embedded import EMBEDDED, is_cached
from horen.model.zoo.loading import load_model
from support.gguf_files import write_gguf

QWEN = "qwen2.5-coder-1.5b-instruct"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GGUF file in the current folder, with an empty cache."""
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return write_gguf(tmp_path / "tiny.gguf")


@pytest.mark.parametrize(
    ("dtype", "loaded", "kept"),
    [
        ("auto", torch.bfloat16, "bfloat16"),
        ("float32", torch.float32, "float32"),
        (torch.float16, torch.float16, "float16"),
        ("half", torch.float16, "float16"),
        (torch.float64, torch.float64, "float32"),
    ],
)
def test_the_type_of_weights(file: Path, dtype: torch.dtype | str, loaded: torch.dtype, kept: str):
    model, tokenizer = load_model(file.name, dtype=dtype)
    assert model.dtype is loaded
    assert not model.training
    assert tokenizer("the").input_ids
    assert [item.weights for item in local_gguf.stored()] == [kept]


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("dtype", ["float23", torch.int8, "Tensor"])
def test_a_wrong_type_is_said_before_the_conversion(dtype: torch.dtype | str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_gguf, "convert", lambda *_: pytest.fail("converted"))
    with pytest.raises(ModelError, match=r"dtype=.* is no type of weights: choose one of auto, float32, bfloat16"):
        load_model("tiny.gguf", dtype=dtype)


def test_progress_is_shown_where_asked_for(file: Path, capfd: pytest.CaptureFixture[str]):
    load_model(str(file), progress=True)
    assert "Converting tiny.gguf to bfloat16 (once)" in capfd.readouterr().err


@pytest.mark.usefixtures("file")
def test_a_missing_file_is_said():
    with pytest.raises(ModelError, match=r"GGUF file '/.*/other.gguf' does not exist"):
        load_model("other.gguf")


def test_a_folder_of_that_name_is_a_folder(file: Path):
    made = local_gguf.convert(str(file), "float32")
    made.rename("folder.gguf")
    model, _ = load_model("folder.gguf")
    assert model.dtype is torch.float32


@pytest.mark.usefixtures("file")
def test_what_cannot_be_loaded_is_told_what_can(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"The folder 'empty' cannot be loaded .* a GGUF file \(\.gguf\)"):
        load_model("empty")


def test_a_codebook_finds_its_file_from_another_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = HorenConfig.from_preset("activations").replace(key_space="raw", max_steps=1)
    editor = Editor.from_pretrained(file.name, settings)
    editor.edit(Edit("the other thing", "the"))
    editor.save("book")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = Editor.load("../book")
    assert again._session.source == str(file)
    assert again.model.dtype is torch.bfloat16
    assert [edit.target for edit in again.edits()] == ["the"]


@pytest.mark.real
@pytest.mark.skipif(not is_cached(QWEN), reason="a gigabyte to fetch: horen models --fetch " + QWEN)
def test_qwen_answers_in_chat():
    model, tokenizer = load_model(QWEN)
    assert model.dtype is torch.bfloat16
    assert model.num_parameters() == EMBEDDED[QWEN].parameters
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=10, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])
