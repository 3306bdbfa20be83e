"""The settings of UnKE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config import TrainingSettings
from horen.config.settings import setting


@dataclass(frozen=True)
class UnkeConfig(TrainingSettings):
    """Settings of UnKE (arXiv 2405.15349).

    ``default`` is the published method, whose hidden states are found as HoReN's default preset trains its values:
    rates in units of the site, and an early stop. ``paper`` finds them with 25 Adam steps of size 0.5 without an early
    stop, as the released configuration for Llama-2 7B does. Both train block 7 of 32, and the end token.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    layer: float = setting(0.22, "layer l that is trained: a depth or a number (published: 7 of 32)", layer=True)
    scope: str = setting(
        "layer",
        "which weights of the layer are trained: all of the layer, attention and norms too, as published; or its mlp's",
        choices=("layer", "mlp"),
    )
    weight_steps: int = setting(50, "Adam steps that the layer's weights are trained for (published)", low=1)
    weight_rate: float = setting(2e-4, "size of such a step, in units of the weights (published)", low=0, open_low=True)
    preserve_count: int = setting(
        20, "unrelated texts on which the layer's outputs are to stay (published; drawn with the run's seed)", low=0
    )
    preserve_weight: float = setting(
        1.0, "λ: weight of these texts' term beside that of the edits; 0 leaves it out", low=0
    )
    texts: str = setting(
        "",
        "file of unrelated texts, one a line; empty: the paragraphs, and where these are too few the prompts, that "
        "come with the package",
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "optimizer": "adam",
                "learning_rate": 0.5,
                "learning_rate_unit": "absolute",
                "max_steps": 25,
                "stop_probability": 1.0,
                "precision": "model",
            },
        }
    )

    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "layer": (0.13, 0.22, 0.33, 0.5, 0.67),
            "weight_rate": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
            "preserve_weight": (0.3, 1.0, 3.0),
            "scope": ("layer", "mlp"),
        }
    )
