"""A calibration on disk: settings, key space and what is guaranteed, in one small folder."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from transformers import PreTrainedModel

import horen.data
from horen._version import __version__
from horen.config import GATE_SETTINGS, KEY_SETTINGS, HorenConfig
from horen.editfiles.atomic import write_whole
from horen.errors import ConfigError, MismatchError, StoreError
from horen.memory import KeySpace
from horen.model.fingerprint import difference, fingerprint
from horen.model.zoo.embedded import named_encoder

_FORMAT = 1
_SHIPPED = Path(horen.data.__file__).parent / "calibrations"
_DOCUMENT = "calibration.json"
#: What a calibration decides; every other setting stays the user's.
SETTINGS = (*KEY_SETTINGS, *GATE_SETTINGS)


@dataclass(frozen=True)
class Guarantee:
    """What a certified threshold promises of one kind of negatives, and what it costs.

    Attributes:
        kind: unrelated, neighbour or same_subject.
        rate: ε, the share of such prompts that may fire.
        confidence: 1 − δ, the chance over samples that the true share at ``certified`` is at most ε.
        negatives: how many such prompts it was taken from.
        certified: the lowest threshold that can be promised; None where the sample is too small for the rate.
        certified_generalization: share of the rephrases that wake their own edit at it.
        empirical_generalization: the same at the threshold where the sample itself fires at ε, without a promise:
            the difference is what the guarantee costs.
        fires: share of the sample that fires at the threshold in force.
        bound: upper confidence bound of the true share at the threshold in force.
        held: whether the threshold in force was chosen to hold ε.
    """

    kind: str
    rate: float
    confidence: float
    negatives: int
    certified: float | None
    certified_generalization: float | None
    empirical_generalization: float
    fires: float
    bound: float
    held: bool


@dataclass(frozen=True)
class Calibration:
    """How one model's prompts are read and told apart.

    Attributes:
        settings: of :class:`horen.HorenConfig`, those in ``SETTINGS``.
        space: the fitted key space.
        token_weights: [V] float32 weight of each token id; None where all count alike.
        guarantees: for each kind of negative.
        report: generalization, top-1 and what was tried, as JSON takes it.
        made_for: fingerprint of the model.
        source: where the model came from, or None.
        encoder: fingerprint of the text encoder that reads; None where activations are read, or it was not noted.
    """

    settings: Mapping[str, Any]
    space: KeySpace
    token_weights: Tensor | None
    guarantees: tuple[Guarantee, ...]
    made_for: dict[str, Any]
    source: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] | None = None

    def applied(self, config: HorenConfig) -> HorenConfig:
        """Return ``config`` with the calibrated settings in the place of its own."""
        return config.replace(**self.settings)

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """Return the same calibration with those of a user's settings that concern the gate; others are left out.

        Raises:
            ConfigError: for a setting that the key space was fitted with.
        """
        changes = {name: value for name, value in settings.items() if name in SETTINGS}
        return self.with_gate(**changes) if changes else self

    def with_gate(self, **changes: Any) -> Self:
        """Return the same calibration with other settings of the gate; what was guaranteed no longer is.

        Raises:
            ConfigError: for a setting that the key space was fitted with, or that no calibration decides.
        """
        for name in changes:
            if name in KEY_SETTINGS:
                raise ConfigError(f"{name} cannot be changed: the calibrated key space was fitted with it.")
            if name not in GATE_SETTINGS:
                gate = ", ".join(GATE_SETTINGS)
                raise ConfigError(f"{name} is no setting of a calibration; those of its gate are {gate}.")
        checked = HorenConfig(**{**self.settings, **changes})
        return replace(self, settings={name: getattr(checked, name) for name in SETTINGS}, guarantees=())

    def check_model(self, model: PreTrainedModel) -> None:
        """Raise MismatchError unless it was made for this model."""
        differs = difference(self.made_for, fingerprint(model))
        if differs:
            raise MismatchError(
                f"The calibration was made for another model ({self.source or 'of unknown source'}; {differs}): run "
                "'horen calibrate' for this one."
            )

    def check_encoder(self, module: nn.Module | None) -> None:
        """Raise MismatchError unless it was made with this text encoder."""
        differs = None if self.encoder is None or module is None else difference(self.encoder, fingerprint(module))
        if differs:
            raise MismatchError(
                f"The calibration was made with another text encoder ({differs}): run 'horen calibrate' anew."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a folder, new or of an earlier calibration, as a whole or not at all.

        Raises:
            StoreError: when the folder cannot be written or is no place for it.
        """
        folder = Path(path)
        tensors = {"key_space.mean": self.space.mean.float()}
        if self.space.map is not None:
            # Half precision moves a cosine by less than 1e-3 of its spread, and halves what is shipped.
            tensors["key_space.map"] = self.space.map.half()
        if self.token_weights is not None:
            tensors["token_weights"] = self.token_weights.half()
        content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
        digest = hashlib.sha256(content).hexdigest()
        document = {
            "format": _FORMAT,
            "horen": __version__,
            "model": {"source": self.source, "fingerprint": self.made_for},
            "settings": dict(self.settings),
            "encoder": self.encoder,
            "guarantees": [asdict(item) for item in self.guarantees],
            "report": self.report,
            "tensors": {"sha256": digest},
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Named by their content, so the document that is replaced last decides which tensors count.
            write_whole(folder / _tensors_name(digest), content)
            write_whole(folder / _DOCUMENT, (_in_lines(document, 3) + "\n").encode())
            for old in folder.glob(_tensors_name("*")):
                if old.name != _tensors_name(digest):
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written ({error.strerror}): choose another folder.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, encoder: str | os.PathLike[str] | None = None) -> Self:
        """Read a folder that :meth:`save` wrote.

        Args:
            path: the folder, or the name of an embedded model whose calibration comes with the package.
            encoder: the text encoder that it was made with, wherever it is now, unless that is the package's own.

        Raises:
            ModelError: when it was made with another text encoder than the package's own, and none is named.
            StoreError: when it is missing, truncated, altered or no calibration.
            MismatchError: when a newer version made it.
        """
        folder = _place(path)
        place = folder / _DOCUMENT
        try:
            document = json.loads(place.read_text(encoding="utf-8"))
            made_by = int(document["format"])
            if made_by > _FORMAT:
                raise MismatchError(f"{place} was made by a newer horen ({document['horen']}): update horen.")
            digest = str(document["tensors"]["sha256"])
            content = (folder / _tensors_name(digest)).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise StoreError(f"{path}: the tensors were altered or truncated; calibrate anew or restore a copy.")
            found = cls._of(document, load(content))
        except OSError as error:
            raise StoreError(
                f"{path} holds no calibration ({error.strerror}: {error.filename}): give a folder that "
                f"'horen calibrate' wrote, or one that comes with the package ({', '.join(shipped())})."
            ) from error
        except (ValueError, KeyError, TypeError, SafetensorError, ConfigError) as error:
            raise StoreError(f"{place} is no usable calibration ({error}): calibrate anew.") from error
        if not HorenConfig(**found.settings).reads_text:
            return found
        named = named_encoder(path, found.settings["encoder"], encoder)
        return replace(found, settings={**found.settings, "encoder": named})

    @classmethod
    def _of(cls, document: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        settings = {name: document["settings"][name] for name in SETTINGS}
        config = HorenConfig(**settings)
        weights = tensors.get("token_weights")
        space = tensors["key_space.map"].float() if "key_space.map" in tensors else None
        return cls(
            settings=settings,
            space=KeySpace(tensors["key_space.mean"].float(), space, config.feature_power if config.whitens else 1.0),
            token_weights=None if weights is None else weights.to(torch.float32),
            guarantees=tuple(Guarantee(**item) for item in document["guarantees"]),
            made_for=document["model"]["fingerprint"],
            source=document["model"]["source"],
            report=document["report"],
            encoder=document.get("encoder"),
        )


def shipped() -> list[str]:
    """Return the names of the embedded models whose calibrations come with the package."""
    return sorted(place.name for place in _SHIPPED.iterdir() if place.is_dir())


def _in_lines(value: Any, levels: int) -> str:
    """Return JSON with a line for each entry of the outer levels: thousands of numbers within would take one each."""
    if levels and value and isinstance(value, dict | list):
        entries = (
            [f"{json.dumps(name)}: {_in_lines(item, levels - 1)}" for name, item in value.items()]
            if isinstance(value, dict)
            else [_in_lines(item, levels - 1) for item in value]
        )
        first, last = "{}" if isinstance(value, dict) else "[]"
        return "\n".join((first, textwrap.indent(",\n".join(entries), " "), last))
    text = json.dumps(value, ensure_ascii=False)
    numbers = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    return textwrap.fill(text, 120, break_on_hyphens=False) if numbers else text


def _place(path: str | os.PathLike[str]) -> Path:
    return _SHIPPED / path if isinstance(path, str) and path in shipped() else Path(path)


def _tensors_name(digest: str) -> str:
    return f"calibration-{digest[:16]}.safetensors"
