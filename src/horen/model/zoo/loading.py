"""Loading a model by an embedded name, a hub id, a folder or a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import huggingface_hub
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from horen.errors import ConfigError, ModelError
from horen.extras import require
from horen.model.zoo import gguf as _gguf
from horen.model.zoo import local_gguf
from horen.model.zoo.embedded import EMBEDDED, fetch


class ModelOptions(TypedDict, total=False):
    """What is passed on to transformers' ``from_pretrained``, and nothing else is: no code of others is ever run.

    Attributes:
        revision: branch, tag or commit of a model of the hub.
        device_map: where accelerate puts the model's parts, in the place of one device.
        quantization_config: how the weights are quantized.
        attn_implementation: "eager", "sdpa" and so on.
        token: for models of the hub that are not for all.
    """

    revision: str
    device_map: Any
    quantization_config: Any
    attn_implementation: str
    token: str | bool


def load_model(
    name: str,
    *,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device | None = None,
    progress: bool = False,
    options: ModelOptions | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        name: an embedded name (see ``horen models``), a folder, a hub id, or a file whose name ends in .gguf. That is
            converted on first use, and kept so in the cache.
        dtype: of the weights; "auto" keeps the saved one, and takes bfloat16 for those of a GGUF file.
        device: where to put the model; None for the CPU.
        progress: show the fetching of an embedded model, or the conversion of a file, on standard error.
        options: what else transformers is told.

    Raises:
        ModelError: when nothing loadable goes by that name.
        ConfigError: for another option, or one that does not go with the name or the device.
    """
    given = _checked(name, options, device)
    if name in EMBEDDED:
        source = str(fetch(name, progress=progress))
    elif local_gguf.is_gguf(name):
        source = str(local_gguf.convert(name, _weights(dtype), progress=progress))
    else:
        source = name
    try:
        # Told in so many words, because transformers would else ask on a terminal whether to run a model's own code.
        hub = {name: given[name] for name in ("revision", "token") if name in given} | {"trust_remote_code": False}
        tokenizer: Any = AutoTokenizer.from_pretrained(source, **hub)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **given | hub)
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


def revision_of(name: str, options: ModelOptions | None) -> str | None:
    """Return the commit of a model that was loaded from the hub; None for any other."""
    if name in EMBEDDED or local_gguf.is_gguf(name) or Path(name).exists():
        return None
    found = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=(options or {}).get("revision"))
    return Path(found).parent.name if isinstance(found, str) else None


def _checked(name: str, options: ModelOptions | None, device: str | torch.device | None) -> dict[str, Any]:
    """Return options as they are passed on.

    Raises:
        ConfigError: for one that is not passed on, or does not go with the name or the device.
    """
    known = ", ".join(sorted(ModelOptions.__annotations__))
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(f"model_options is {type(options).__name__} ({options!r}): give a dictionary of {known}.")
    given: dict[str, Any] = dict(options or {})
    for option in given:
        if option not in ModelOptions.__annotations__:
            raise ConfigError(f"model_options has {option!r}, which is not passed on: those that are, are {known}.")
    if device is not None and given.get("device_map") is not None:
        raise ConfigError(
            f"device={device!r} and device_map={given['device_map']!r} contradict each other: leave one out."
        )
    if given.get("revision") is not None and (name in EMBEDDED or local_gguf.is_gguf(name) or Path(name).exists()):
        raise ConfigError(
            f"revision={given['revision']!r} is not valid for {name!r}: leave it out, which is for models of the hub."
        )
    if given.get("device_map") is not None:
        require("models", "device_map needs", ("accelerate",))
    return given


def _weights(dtype: torch.dtype | str) -> str:
    """Return the type that a GGUF file's weights are converted to, for a model that is to have them in ``dtype``.

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
