"""A tiny random text encoder, saved in transformers' format, and settings under which editors read with it."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from support.tiny_models import seeded
from support.tiny_tokenizers import SENTENCES

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "capital", "of", "france", "is", "paris", "boats")
ENCODED = 16


def save_encoder(folder: Path, *, seed: int = 0, more_words: tuple[str, ...] = ()) -> Path:
    """An encoder of ``WORDS`` and more; the same seed gives the same weights."""
    words = (*WORDS, *more_words)
    inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]").save_pretrained(folder)  # noqa: S106
    sizes = {"hidden_size": ENCODED, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with seeded(seed):
        BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return folder


@cache
def _knowing_folder() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="horen-test-encoder-")
    known = re.findall(r"\w+|[^\w\s]", " ".join(SENTENCES).lower())
    save_encoder(Path(made.name), more_words=tuple(dict.fromkeys(word for word in known if word not in WORDS)))
    return made


def text_settings(**more: Any) -> dict[str, Any]:
    """Settings of an editor that reads with a tiny encoder, which knows the words of the tiny tokenizers."""
    return {"read_sites": "text", "encoder": _knowing_folder().name} | more
