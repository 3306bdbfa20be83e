"""The conversion of GGUF weights: exact, silent, and complete or refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.utils import logging

from horen.model import _gguf, embedded
from horen.model.embedded import EMBEDDED


def write_tiny_gguf(path: Path) -> None:
    """A two-layer llama with tied embeddings, one quantized matrix per layer and a byte-level vocabulary."""
    width, hidden, heads, kv_heads = 64, 96, 4, 2
    alphabet = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tokens = ["<s>", "</s>", *map(chr, alphabet), *(chr(256 + k) for k in range(256 - len(alphabet))), "th", "the"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    noise = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, noise.normal(0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), width)
    add("output_norm.weight", width)
    for layer in range(2):
        add(f"blk.{layer}.attn_norm.weight", width)
        add(f"blk.{layer}.ffn_norm.weight", width)
        add(f"blk.{layer}.attn_q.weight", width, width)
        add(f"blk.{layer}.attn_output.weight", width, width)
        add(f"blk.{layer}.attn_k.weight", width * kv_heads // heads, width)
        add(f"blk.{layer}.attn_v.weight", width * kv_heads // heads, width)
        add(f"blk.{layer}.ffn_down.weight", width, hidden)
        add(f"blk.{layer}.ffn_gate.weight", hidden, width)
        kind = gguf.GGMLQuantizationType.Q4_1
        data = gguf.quants.quantize(noise.normal(0, 0.3, (hidden, width)).astype(np.float32), kind)
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def settings() -> list[object]:
    bar = modeling_gguf_pytorch_utils.tqdm
    return [logging.get_verbosity(), logging.is_progress_bar_enabled(), bar, torch.get_default_dtype()]


def test_conversion_changes_no_logit_and_no_setting(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    write_tiny_gguf(source / "tiny.gguf")
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
    write_tiny_gguf(tmp_path / "whole.gguf")
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
