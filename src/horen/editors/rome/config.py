"""The settings of ROME."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import setting
from horen.editors.common.locate import RELEASED, LocateConfig


@dataclass(frozen=True)
class RomeConfig(LocateConfig):
    """Settings of ROME (arXiv 2202.05262).

    ``paper`` is the released recipe for GPT-2 XL: layer 17 of 48, twenty prefixes. ``default`` writes into layer 5 of
    28, as released for GPT-J, with fewer prefixes.
    """

    layer: float = setting(0.18, "layer whose down projection is changed: a depth or a number", layer=True)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"default": {}, "paper": {**RELEASED, "layer": 0.354, "prefixes": 20}}
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "layer": (0.07, 0.18, 0.3, 0.45),
            "learning_rate": (0.1, 0.2, 0.5),
            "kl_weight": (0.0, 0.0625, 0.25),
            "max_norm": (2.0, 4.0, 8.0),
        }
    )
