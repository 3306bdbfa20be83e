"""The settings of GRACE."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config import HorenConfig, TrainingSettings
from horen.config.settings import setting


@dataclass(frozen=True)
class GraceConfig(TrainingSettings):
    """Settings of GRACE (arXiv 2211.11031).

    ``default`` is the published method, trained as HoReN's default preset trains: rates in units of the site, an early
    stop, and the end token trained. Its 100 steps are the published number; HoReN's own budget is ``max_steps=50``.
    ``paper`` is the published recipe for a decoder-only model: block 35 of 48, 100 steps of size 1 from U(0, 1),
    without an early stop.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    layer: float = setting(0.83, "layer whose MLP is adapted: a depth or a number", layer=True)
    eps_init: float = setting(1.0, "ε_init: deferral radius of a new entry, in units of the key space", low=0)
    start: str = setting(
        "uniform",
        "where a value starts: uniform U(0, 1) as published (cold start), or the layer's own output (warm start)",
        choices=("uniform", "output"),
    )
    max_steps: int = setting(100, "most optimisation steps an edit may take", low=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "layer": 0.73,
                "optimizer": "adam",
                "learning_rate_unit": "absolute",
                "stop_probability": 1.0,
                "train_end": False,
                "precision": "model",
            },
        }
    )

    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "layer": (0.5, 0.67, 0.73, 0.83),
            "eps_init": (1.0, 3.0, 10.0, 30.0),
            "learning_rate": (0.3, 1.0, 3.0),
            "start": ("uniform", "output"),
        }
    )

    def sites(self, layer: int) -> HorenConfig:
        """Return the same settings in the words of :class:`horen.HorenConfig`, with the layer as a number.

        The adapted layer f is the MLP's down projection (the whole MLP where it has not one): its input at the
        prompt's last token is the query, and its output there is what a value replaces.
        """
        return HorenConfig(
            read_sites=f"auto@{layer}",
            read_share=0.0,
            read_weight="equal",
            key_space="raw",
            scope="all",
            write_layer=layer,
            value="vector",
            contexts="prompt",
            **{item.name: getattr(self, item.name) for item in dataclasses.fields(TrainingSettings)},
        )
