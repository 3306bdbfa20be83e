"""The settings of AlphaEdit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import setting
from horen.editors.common.locate import RELEASED
from horen.editors.common.locate.spreading import SpreadingConfig


@dataclass(frozen=True)
class AlphaEditConfig(SpreadingConfig):
    """Settings of AlphaEdit (arXiv 2410.02355).

    ``paper`` is the published recipe for GPT-2 XL: layers 13 to 17 of 48, eigenvalues below 0.01. Eigenvalues of C grow
    with the square of a model's activations, so ``default`` measures them in units of their median.
    """

    threshold: float = setting(
        1.0,
        "eigenvalues of C below this span the null space that edits are projected onto, in units of eigenvalue_unit",
        low=0,
        open_low=True,
    )
    ridge: float = setting(
        1.0, "ρ, weight of ‖Δ‖² in units of eigenvalue_unit; the published I is 1", low=0, open_low=True
    )
    eigenvalue_unit: str = setting(
        "median",
        "median: the median eigenvalue of a layer's C, so that one setting fits every model; absolute: 1",
        choices=("median", "absolute"),
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                **RELEASED,
                "first_layer": 0.271,
                "last_layer": 0.354,
                "threshold": 0.01,
                "eigenvalue_unit": "absolute",
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "first_layer": (0.05, 0.1, 0.2),
            "last_layer": (0.25, 0.35, 0.5),
            "threshold": (0.1, 0.3, 1.0, 3.0),
            "ridge": (0.3, 1.0, 3.0),
        }
    )
