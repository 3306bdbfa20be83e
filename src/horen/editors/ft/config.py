"""The settings of constrained fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import setting
from horen.editors.common.finetuning import FineTuningSettings


@dataclass(frozen=True)
class FTConfig(FineTuningSettings):
    """Settings of constrained fine-tuning.

    ``paper`` is the baseline FT+L of Meng et al. 2022 (arXiv 2202.05262) for GPT-2 XL: the first layer, a learning rate
    and a norm of 5e-4, within the 25 steps of its released settings; the stop at a loss of 0.03 is ours. ``default``
    measures both in units of the layer's weights, so that one setting fits every model, and trains the end token.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    layer: float = setting(0.5, "layer whose down projection is trained: a depth or a number", layer=True)
    learning_rate: float = setting(0.005, "Adam's learning rate, in units of unit", low=0, open_low=True)
    norm: float = setting(
        0.02,
        "ε of the constraint ‖θ − θ₀‖∞ ≤ ε (Zhu et al. 2020), in units of unit; 0 leaves the weights free",
        low=0,
    )
    unit: str = setting(
        "weight",
        "weight: the root mean square of the projection's original weights; absolute: 1, as published",
        choices=("weight", "absolute"),
    )
    norm_from: str = setting(
        "batch",
        "θ₀: batch: the weights before each batch of edits; original: the model's own, so that edits share one norm",
        choices=("batch", "original"),
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "layer": 0,
                "learning_rate": 5e-4,
                "norm": 5e-4,
                "unit": "absolute",
                "max_steps": 25,
                "train_end": False,
                "precision": "model",
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "layer": (0.0, 0.17, 0.33, 0.5, 0.67, 0.83),
            "learning_rate": (0.001, 0.005, 0.02, 0.05),
            "norm": (0.005, 0.02, 0.1, 0.5, 0.0),
            "norm_from": ("batch", "original"),
        }
    )
