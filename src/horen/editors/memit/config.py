"""The settings of MEMIT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import setting
from horen.editors.common.locate import RELEASED
from horen.editors.common.locate.spreading import SpreadingConfig


@dataclass(frozen=True)
class MemitConfig(SpreadingConfig):
    """Settings of MEMIT (arXiv 2210.07229).

    ``paper`` is the released recipe for GPT-2 XL: layers 13 to 17 of 48, λ = 20,000. ``default`` measures λ in units of
    d_k: a key k of running text has kᵀ C⁻¹ k ≈ d_k, so that λ decides alike in models of every width.
    """

    covariance_weight: float = setting(
        0.25,
        "λ, how many keys of running text an edit's key is weighed against, in units of covariance_unit",
        low=0,
        open_low=True,
    )
    covariance_unit: str = setting(
        "width", "width: d_k, so that one setting fits every model; absolute: 1", choices=("width", "absolute")
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                **RELEASED,
                "first_layer": 0.271,
                "last_layer": 0.354,
                "covariance_weight": 20_000.0,
                "covariance_unit": "absolute",
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "first_layer": (0.05, 0.1, 0.2),
            "last_layer": (0.25, 0.35, 0.5),
            "covariance_weight": (0.05, 0.25, 1.0, 4.0),
        }
    )
