"""What is told of a codebook to the processes of an engine: in vLLM's configuration, which they all are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from horen.errors import ConfigError
from horen.front.front import check_told
from horen.model.layout import Layout
from horen.store.state import Saved

#: Names a codebook's folder, where vLLM's ``additional_config`` names none.
CODEBOOK = "HOREN_CODEBOOK"
#: Set to anything but 0, no prompt is routed and the model answers as it is.
DISABLED = "HOREN_DISABLED"
_SECTION = "horen"


@dataclass(frozen=True)
class Settings:
    """How an engine answers with edits.

    Attributes:
        codebook: a codebook's folder.
        site: name of the module that values are written at, as transformers has it.
        replaces: whether a value takes the place of what the module gives, or is added.
        reads: names of the modules whose input or output is read, in the order in which they are computed; none where
            the front routes.
    """

    codebook: str
    site: str
    replaces: bool
    reads: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, config: Any) -> Settings | None:
        """Return what a ``VllmConfig`` holds since :meth:`note`; None where no edits are served."""
        section = _section(config)
        if section.keys() != {field.name for field in fields(cls)}:
            return None
        return cls(**{**section, "reads": tuple((name, side) for name, side in section["reads"])})

    def note(self, config: Any) -> None:
        """Put this into a ``VllmConfig``; compiled graphs are cached under it, too."""
        config.additional_config = {**config.additional_config, _SECTION: asdict(self)}


def named(config: Any) -> str | None:
    """Return the folder that a ``VllmConfig`` or the environment names; None where there is none, or edits are off.

    Raises:
        ConfigError: for a section in ``additional_config`` that is not understood.
    """
    if os.environ.get(DISABLED, "0") not in ("", "0"):
        return None
    section = _section(config)
    if set(section) - {field.name for field in fields(Settings)}:
        raise ConfigError(f"additional_config[{_SECTION!r}] is {section!r}: give {{'codebook': FOLDER}}.")
    return section.get("codebook") or os.environ.get(CODEBOOK) or None


def settings_of(codebook: str, model: str) -> Settings:
    """Return what the processes of an engine are told of a codebook.

    Raises:
        StoreError: when the folder is missing, truncated or altered.
        ConfigError: for a codebook that no engine can serve, or a site that the model does not have.
        ModelError: for a model whose layers are not found.
    """
    saved = Saved.read(codebook)
    if saved.config.value == "lora":
        raise ConfigError(f"{saved.path} has lora values, which vLLM does not write: write its edits with value=state.")
    check_told(saved)
    shape = shape_of(model)
    layout = Layout.of(shape)
    site = layout.write_site(saved.config)
    names = {module: name for name, module in shape.named_modules()}
    reads = () if saved.config.reads_text else layout.read_sites(saved.config)
    return Settings(
        str(Path(codebook).resolve()),
        names[site.module],
        site.replaces,
        tuple((names[read.module], read.side) for read in reads),
    )


def shape_of(model: str) -> PreTrainedModel:
    """Return a model, by its folder or hub id, that has everything but weights."""
    maker: Any = AutoModelForCausalLM
    with torch.device("meta"):
        shape: PreTrainedModel = maker.from_config(AutoConfig.from_pretrained(model))
    return shape


def _section(config: Any) -> Mapping[str, Any]:
    given = config.additional_config
    section = given.get(_SECTION, {}) if isinstance(given, Mapping) else {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"additional_config[{_SECTION!r}] is {section!r}: give {{'codebook': FOLDER}}.")
    return section
