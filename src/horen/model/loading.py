"""Loading a model by an embedded name, a hub id or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from horen.errors import ModelError
from horen.model.embedded import EMBEDDED, fetch


def load_model(
    name: str, *, dtype: torch.dtype | str = "auto", device: str | torch.device | None = None, progress: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        name: an embedded name (see ``horen models``), a folder, or a hub id.
        dtype: of the weights; "auto" keeps the saved one.
        device: where to put the model; None for the CPU.
        progress: show the fetching of an embedded model on standard error.

    Raises:
        ModelError: when nothing loadable goes by that name.
    """
    source = str(fetch(name, progress=progress)) if name in EMBEDDED else name
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        kind = "folder" if Path(name).exists() else "model"
        raise ModelError(
            f"The {kind} {name!r} cannot be loaded as a causal language model ({reason}): give an embedded name "
            f"({', '.join(EMBEDDED)}), a folder in transformers' format, or the id of a hub model that you can reach."
        ) from error
    return model.eval() if device is None else model.to(device).eval(), tokenizer
