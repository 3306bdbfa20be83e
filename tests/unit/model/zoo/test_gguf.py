"""The conversion of GGUF weights: exact, silent, and complete or refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.utils import logging

from horen.model.zoo import embedded
from horen.model.zoo import gguf as _gguf
from horen.model.zoo.embedded import EMBEDDED
from support.gguf_files import write_gguf


def settings() -> list[object]:
    bar = modeling_gguf_pytorch_utils.tqdm
    return [logging.get_verbosity(), logging.is_progress_bar_enabled(), bar, torch.get_default_dtype()]


def test_conversion_changes_no_logit_and_no_setting(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    write_gguf(source / "tiny.gguf")
    before = settings()
    seed = torch.get_rng_state()
    capfd.readouterr()
    _gguf.convert(source / "tiny.gguf", out)
    assert capfd.readouterr() == ("", "")
    assert settings() == before
    assert torch.equal(seed, torch.get_rng_state())

    auto = AutoModelForCausalLM
    original = auto.from_pretrained(source, gguf_file="tiny.gguf", dtype=torch.float32)
    converted = auto.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template
    assert getattr(converted.config, "quantization_config", None) is None
    assert converted.dtype is torch.float32
    assert converted.get_input_embeddings().weight is converted.get_output_embeddings().weight
    ids = tokenizer("the other thing", return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "the other thing"
    with torch.no_grad():
        assert torch.equal(original(ids).logits, converted(ids).logits)


def test_a_gguf_without_all_weights_is_refused(tmp_path: Path):
    write_gguf(tmp_path / "whole.gguf")
    out = tmp_path / "out"
    out.mkdir()
    # The reader finds tensors by name, so one that is renamed (to the same length) is missing.
    data = (tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "part.gguf").write_bytes(data.replace(b"blk.1.ffn_up.weight", b"blk.1.fxx_up.weight"))
    assert len(gguf.GGUFReader(tmp_path / "part.gguf").tensors) == 20
    with pytest.raises(ValueError, match=r"no weights for .*up_proj"):
        _gguf.convert(tmp_path / "part.gguf", out)
    assert list(out.iterdir()) == []


@pytest.mark.real
def test_smollm2_answers_in_chat(capfd: pytest.CaptureFixture[str]):
    folder = embedded.fetch("smollm2-135m-instruct")
    assert capfd.readouterr() == ("", "")
    assert embedded.is_cached("smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype is torch.float32
    assert model.num_parameters() == EMBEDDED["smollm2-135m-instruct"].parameters
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])
