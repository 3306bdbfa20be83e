"""The settings of MEND: of the editor, and of the training that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import Settings, setting
from horen.editors.common.gradients.linear import MODULES


@dataclass(frozen=True)
class MendConfig(Settings):
    """Settings of MEND (arXiv 2110.11309); the recipe is that of its network, so both presets are the same."""

    network: str = setting("", "folder of a network that 'horen bench train-mend' trained for this model")


@dataclass(frozen=True)
class MendTraining(Settings):
    """Settings of a network's training.

    ``paper`` is the published recipe for GPT-style models, except that it has no early stop: 100,000 steps where the
    paper validates for up to 500,000. ``default`` is for a small model on a CPU: fewer steps of a greater size, and a
    smaller rank.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    blocks: int = setting(3, "so many of the last layers are changed, as published", low=1)
    modules: str = setting(
        "both",
        "linear modules of the MLP that are changed: in (up and gate projections), out (the down projection) or both, "
        "as published",
        choices=MODULES,
    )
    rank: int = setting(128, "rank of the network's weights; published: 1920", low=1)
    step_size: float = setting(1e-4, "α where training starts, of every weight; published: 1e-4", low=0, open_low=True)
    steps: int = setting(2000, "training steps; 0 leaves plain gradient steps of size α", low=0)
    batch: int = setting(10, "edits of a training step, each applied alone; published: 10", low=1)
    learning_rate: float = setting(1e-4, "Adam's rate for the network; published: 1e-6", low=0, open_low=True)
    step_size_rate: float = setting(1e-4, "Adam's rate for the step sizes α; published: 1e-4", low=0, open_low=True)
    edit_weight: float = setting(0.1, "c_edit: weight of the edit loss; that of locality is 1", low=0)
    train_end: bool = setting(True, "train the end token after the target, so that the answer ends where it should")
    seed: int = setting(0, "of where the network starts and of what is drawn")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "rank": 1920,
                "learning_rate": 1e-6,
                "steps": 100_000,
                "train_end": False,
            },
        }
    )
