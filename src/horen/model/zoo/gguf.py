"""The conversion of a GGUF file to the format that transformers loads natively."""

from __future__ import annotations

import contextlib
import copy
import errno
import functools
import importlib
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from horen.model.zoo.cache import is_disk_full

_ONE_AT_A_TIME = threading.Lock()  # the silence below is a state of the process: it must nest, not interleave


_MOST = 300  # characters: transformers may list every model that it knows
#: What transformers reads GGUF files with.
PACKAGES = ("gguf", "accelerate")
BYTES: Mapping[str, int] = MappingProxyType({"float32": 4, "bfloat16": 2, "float16": 2})  # of each kind of weight


def convert(gguf: Path, out: Path, dtype: str = "float32") -> None:
    """Write the GGUF as a model and tokenizer in transformers' format.

    At its peak it takes the memory of the weights as they are written and of the largest of them in float32.

    Args:
        gguf: the file. Its folder must hold nothing else that transformers reads.
        out: an empty folder.
        dtype: type of the weights, one of ``BYTES``.

    Raises:
        ValueError: the file lacks weights of the model.
        Exception: whatever transformers raises on a file that it cannot read or write.
    """
    import torch  # noqa: PLC0415 - seconds to import, and needed on the first use of a model only
    import transformers  # noqa: PLC0415

    place = str(gguf.parent)
    source = {"gguf_file": gguf.name, "local_files_only": True}
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "output_loading_info": True}
    unpacked: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions can keep the weights packed: not wanted here
        unpacked["quantization_config"] = transformers.GgufConfig(dequantize=True)
    auto: Any = transformers.AutoModelForCausalLM
    with _ONE_AT_A_TIME, _quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **source)
        loaded, found = auto.from_pretrained(place, **source, **options, **unpacked)
        # Some versions refuse to save a model whose config names a quantization, so its weights move into a
        # plain one; from_pretrained does that without random initialization and ties what is tied.
        config = copy.deepcopy(loaded.config)
        config.__dict__.pop("quantization_config", None)
        plain, kept = type(loaded).from_pretrained(None, config=config, state_dict=loaded.state_dict(), **options)
        # A weight that is not in the file would be random, and the warning about it is silenced here.
        missing = {*found["missing_keys"], *kept["missing_keys"]}
        if missing:
            raise ValueError(f"the file has no weights for {', '.join(sorted(missing))}")
        plain.generation_config = loaded.generation_config
        plain.save_pretrained(str(out))
        tokenizer.save_pretrained(str(out))


def reason(error: Exception) -> str:
    """Return on one line why a conversion failed.

    Raises:
        OSError: because the disk is full, which is for the cache to say.
    """
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if is_disk_full(error):
        raise OSError(errno.ENOSPC, words) from error
    return words if len(words) <= _MOST else f"{words[:_MOST]} …"


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' bars and notes; what the user had set is put back."""
    hub: Any = importlib.import_module("huggingface_hub.utils")
    logging: Any = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_silent = hub.are_progress_bars_disabled()
    reader: Any = None
    with contextlib.suppress(ImportError):  # this module draws its bar with tqdm itself, past the switch
        reader = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = getattr(reader, "tqdm", None)
    try:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        if bar is not None:
            reader.tqdm = functools.partial(bar, disable=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if bar is not None:
            reader.tqdm = bar
        if bars:
            logging.enable_progress_bar()
            if hub_silent:
                hub.disable_progress_bars()
        logging.set_verbosity(level)
