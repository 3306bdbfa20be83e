"""What a bug report has to say about the machine, the model and the settings, and nothing about whose they are."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen._version import __version__
from horen.config import HorenConfig
from horen.model.devices import device_of
from horen.model.zoo.embedded import EMBEDDED
from horen.store.card import settings_in_words

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "faiss-cpu", "numba", "peft")
_DIGITS = 12


def facts_of(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    made_for: dict[str, Any],
    config: HorenConfig,
    edits: str,
) -> dict[str, str]:
    """Return the facts by name.

    Args:
        name: of the model; told of embedded ones alone, since others may be paths or private.
        model: the model.
        tokenizer: its own.
        made_for: its fingerprint.
        config: the settings; a text encoder of the user's own is not named.
        edits: in words, which ones were checked.
    """
    device = device_of(model)
    where = f"{device.type}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        where = f"{device.type}, {torch.cuda.get_device_name(device)}"
    body = model.config.get_text_config(decoder=True)
    sizes = f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters"
    layers, width = getattr(body, "num_hidden_layers", None), getattr(body, "hidden_size", None)
    digests = (made_for["architecture"][:_DIGITS], made_for["weights"][:_DIGITS])
    return {
        "horen": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{package: found for package in _PACKAGES if (found := _version(package))},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": where,
        "dtype": str(model.dtype).removeprefix("torch."),
        "model": f"{name if name in EMBEDDED else 'not an embedded one'}, {type(model).__name__}",
        "size": f"{sizes}, {layers} layers of width {width}",
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "quantized": "yes" if getattr(model.config, "quantization_config", None) is not None else "no",
        "tokenizer": f"{type(tokenizer).__name__}, {'with' if tokenizer.chat_template else 'no'} chat template",
        "fingerprint": "architecture {}, weights {}".format(*digests),
        "settings": settings_in_words(config),
        "edits": edits,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
