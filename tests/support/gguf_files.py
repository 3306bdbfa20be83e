"""A tiny model as a GGUF file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

_WIDTH, _HIDDEN, _HEADS, _KV_HEADS, _LAYERS = 64, 96, 4, 2, 2
_ALPHABET = [*range(33, 127), *range(161, 173), *range(174, 256)]
_TOKENS = ["<s>", "</s>", *map(chr, _ALPHABET), *(chr(256 + k) for k in range(256 - len(_ALPHABET))), "th", "the"]
PARAMETERS = len(_TOKENS) * _WIDTH + _WIDTH + _LAYERS * (2 * _WIDTH + 3 * _WIDTH * _WIDTH + 3 * _WIDTH * _HIDDEN)


def write_gguf(
    path: Path, *, architecture: str = "llama", tokenizer: bool = True, parts: int = 0, seed: int = 0
) -> Path:
    """A two-layer model with tied embeddings, one quantized matrix a layer and a byte-level vocabulary."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(_TOKENS))
    if parts:
        writer.add_uint16("split.count", parts)
    if tokenizer:
        _add_tokenizer(writer)
    noise = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray:
        return noise.normal(0, 0.3, shape).astype(np.float32)

    writer.add_tensor("token_embd.weight", random(len(_TOKENS), _WIDTH))
    writer.add_tensor("output_norm.weight", random(_WIDTH))
    shapes = {
        "attn_norm": (_WIDTH,),
        "ffn_norm": (_WIDTH,),
        "attn_q": (_WIDTH, _WIDTH),
        "attn_output": (_WIDTH, _WIDTH),
        "attn_k": (_WIDTH * _KV_HEADS // _HEADS, _WIDTH),
        "attn_v": (_WIDTH * _KV_HEADS // _HEADS, _WIDTH),
        "ffn_down": (_WIDTH, _HIDDEN),
        "ffn_gate": (_HIDDEN, _WIDTH),
    }
    kind = gguf.GGMLQuantizationType.Q4_1
    for layer in range(_LAYERS):
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", random(*shape))
        packed = gguf.quants.quantize(random(_HIDDEN, _WIDTH), kind)
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(_TOKENS) - 2))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
