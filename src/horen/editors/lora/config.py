"""The settings of low-rank adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import setting
from horen.editors.common.finetuning import FineTuningSettings


@dataclass(frozen=True)
class LoRAConfig(FineTuningSettings):
    """Settings of low-rank adaptation.

    ``paper`` has what Hu et al. 2021 (arXiv 2106.09685) publish for GPT-2: query and value projections, rank 4, α = 32
    and a learning rate of 2e-4. They adapt to whole tasks, so the number of steps for a batch of edits and the early
    stop are those of ``default``.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    targets: str = setting(
        "down",
        "which projections of every layer get an adapter: down: the MLP's down projection; attention: query and value, "
        "or the joint one where there is one",
        choices=("down", "attention"),
    )
    rank: int = setting(8, "rank r of an adapter B A", low=1)
    alpha: float = setting(16.0, "α: an adapter adds (α / r) B A x", low=0, open_low=True)
    learning_rate: float = setting(1e-3, "Adam's learning rate", low=0, open_low=True)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "targets": "attention",
                "rank": 4,
                "alpha": 32.0,
                "learning_rate": 2e-4,
                "train_end": False,
                "precision": "model",
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "targets": ("down", "attention"),
            "rank": (1, 4, 8, 32),
            "alpha": (8.0, 16.0, 32.0),
            "learning_rate": (2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
        }
    )
