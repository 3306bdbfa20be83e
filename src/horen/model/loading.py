"""Loading a model by an embedded name, a hub id, a folder or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from horen.errors import ModelError
from horen.model import _gguf, local_gguf
from horen.model.embedded import EMBEDDED, fetch


def load_model(
    name: str, *, dtype: torch.dtype | str = "auto", device: str | torch.device | None = None, progress: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        name: an embedded name (see ``horen models``), a folder, a hub id, or a file whose name ends in .gguf. That is
            converted on first use, and kept so in the cache.
        dtype: of the weights; "auto" keeps the saved one, and takes bfloat16 for those of a GGUF file.
        device: where to put the model; None for the CPU.
        progress: show the fetching of an embedded model, or the conversion of a file, on standard error.

    Raises:
        ModelError: when nothing loadable goes by that name.
    """
    if name in EMBEDDED:
        source = str(fetch(name, progress=progress))
    elif local_gguf.is_gguf(name):
        source = str(local_gguf.convert(name, _weights(dtype), progress=progress))
    else:
        source = name
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        place = Path(name)
        kind = "folder" if place.is_dir() else "file" if place.exists() else "model"
        raise ModelError(
            f"The {kind} {name!r} cannot be loaded as a causal language model ({reason}): give an embedded name "
            f"({', '.join(EMBEDDED)}), a folder in transformers' format, a GGUF file (.gguf), or the id of a hub model "
            "that you can reach."
        ) from error
    return model.eval() if device is None else model.to(device).eval(), tokenizer


def _weights(dtype: torch.dtype | str) -> str:
    """The type that a GGUF file's weights are converted to, for a model that is to have them in ``dtype``.

    Raises:
        ModelError: when that is no type of weights; said before a long conversion, not after it.
    """
    if dtype == "auto":
        return local_gguf.WEIGHTS
    named = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise ModelError(f"dtype={dtype!r} is no type of weights: choose one of auto, {', '.join(_gguf.BYTES)}.")
    kept = str(named).removeprefix("torch.")
    return kept if kept in _gguf.BYTES else "float32"
