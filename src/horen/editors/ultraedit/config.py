"""The settings of UltraEdit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import Settings, setting
from horen.editors.common.gradients.linear import MODULES


@dataclass(frozen=True)
class UltraEditConfig(Settings):
    """Settings of UltraEdit (arXiv 2505.14679).

    ``paper`` is the recipe that public benchmarks use for GPT-J: the down projections of layers 18 to 26 of 28 and
    η = 1e-6.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    first_layer: float = setting(0.64, "first layer that is changed: a depth or a number", layer=True)
    last_layer: float = setting(0.93, "last layer that is changed: a depth or a number", layer=True)
    modules: str = setting(
        "out",
        "linear modules of the MLP that are changed: in (up and gate projections), out (the down projection) or both",
        choices=MODULES,
    )
    learning_rate: float = setting(1e-6, "η: change of an output for each unit of ‖h̃‖²·δ̃", low=0, open_low=True)
    train_end: bool = setting(True, "train the end token after the target, so that the answer ends where it should")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"default": {}, "paper": {"preset": "paper", "learning_rate": 1e-6, "train_end": False}}
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "first_layer": (0.3, 0.5, 0.64),
            "modules": ("in", "out", "both"),
            "learning_rate": (1e-06, 1e-05, 3e-05, 0.0001, 0.0003, 0.001),
        }
    )
