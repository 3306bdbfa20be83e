"""The settings of DEFER."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config import HorenConfig
from horen.config.settings import setting
from horen.editors.common.gated import GatedSettings


@dataclass(frozen=True)
class DeferConfig(GatedSettings):
    """Settings of DEFER (arXiv 2211.11031).

    ``default`` measures steps in units of the layer and trains the end token. ``paper`` trains one edit at a time; its
    rate is the one that the WISE paper (arXiv 2405.14768, appendix A.3) found best for Llama-2-7B and Mistral-7B, where
    the original 1.0 was unstable.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    layer: float = setting(0.83, "layer whose MLP is adapted: a depth or a number", layer=True)
    threshold: float = setting(0.5, "a prompt is answered by o where g is at least this", low=0, high=1, open_low=True)
    irrelevant: int = setting(
        256, "prompts of the package's own bank that g learns to leave to the model", low=1, high=4096
    )
    unit: str = setting(
        "site",
        "of the learning rate. site: a step of 1 changes o by the root mean square of the layer's output at most; "
        "absolute: of the weights themselves",
        choices=("site", "absolute"),
    )
    learning_rate: float = setting(0.2, "of o, by Adam, in the unit above", low=0, open_low=True)
    gate_rate: float = setting(0.05, "of g, by Adam, for inputs of unit root mean square", low=0, open_low=True)
    max_steps: int = setting(100, "most steps of a batch (as GRACE)", low=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "layer": 0.84,
                "unit": "absolute",
                "learning_rate": 7e-5,
                "stop_probability": 1.0,
                "batch_edits": 1,
                "train_end": False,
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "layer": (0.3, 0.5, 0.67, 0.83),
            "learning_rate": (0.1, 0.2, 0.5),
            "gate_rate": (0.02, 0.05, 0.1),
        }
    )

    def sites(self, layer: int) -> HorenConfig:
        """Return what is read and written, in the words of :class:`horen.HorenConfig`, with the layer as a number."""
        return self.reading(f"auto@{layer}", 0.0)
