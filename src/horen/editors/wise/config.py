"""The settings of WISE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config import HorenConfig
from horen.config.settings import setting
from horen.editors.common.gated import GatedSettings


@dataclass(frozen=True)
class WiseConfig(GatedSettings):
    """Settings of WISE (arXiv 2405.14768).

    ``default`` is the published method, trained in batches by Adam, with margins and steps in units of the layer and
    the end token trained. ``paper`` is the published recipe for Llama-2-7B and Mistral-7B: one edit at a time, SGD at
    rate 1, margins 5, 20 and 10. The prompts behind random tokens that the paper also trains are left out of both.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    layer: float = setting(
        0.84, "layer whose down projection has a side memory: a depth or a number (paper: 27 of 32)", layer=True
    )
    read_share: float = setting(
        1.0, "share of a prompt's last tokens whose mean activation is A(x); 0 is the last token alone", low=0, high=1
    )
    mask_ratio: float = setting(0.2, "ρ: share of the weights that a shard may change", low=0, high=1, open_low=True)
    shards: int = setting(2, "k: shards that are merged into one side memory", low=1)
    shard_edits: int = setting(500, "edits in a shard (paper: half of a stream of 1,000)", low=1)
    density: float = setting(
        0.53,
        "share of a shard's weights that TIES keeps, the largest (the paper does not say; its released configuration)",
        low=0,
        high=1,
        open_low=True,
    )
    retrieve: bool = setting(
        False,
        "WISE-Retrieve: k full shards are a side memory of their own, and the one with the greatest score answers",
    )
    unit: str = setting(
        "site",
        "of margins and learning rate. site: margins in mean lengths of the layer's output, and a step of 1 changes an "
        "output by its root mean square at most; absolute: as published",
        choices=("site", "absolute"),
    )
    alpha: float = setting(0.25, "α: score that irrelevant prompts may have without loss (paper: 5)", low=0)
    beta: float = setting(1.0, "β: score that edits need to be without loss (paper: 20)", low=0)
    gamma: float = setting(0.5, "γ: lead of edits over irrelevant prompts without loss (paper: 10)", low=0)
    irrelevant: int = setting(
        256, "irrelevant prompts of the margin losses, from the package's own bank", low=1, high=4096
    )
    threshold_share: float = setting(
        0.99, "share of the smallest score of an edit at which a prompt is routed; below 1 for rounding", low=0, high=1
    )
    optimizer: str = setting("adam", "adam, or sgd as published", choices=("adam", "sgd"))
    learning_rate: float = setting(1.0, "η, in the unit above", low=0, open_low=True)
    max_steps: int = setting(70, "most steps of a batch (the paper does not say; its released configuration)", low=1)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "paper": {
                "preset": "paper",
                "unit": "absolute",
                "alpha": 5.0,
                "beta": 20.0,
                "gamma": 10.0,
                "optimizer": "sgd",
                "learning_rate": 1.0,
                "stop_probability": 1.0,
                "batch_edits": 1,
                "train_end": False,
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "layer": (0.3, 0.5, 0.67, 0.84),
            "learning_rate": (0.5, 1.0, 2.0),
            "max_steps": (30, 70, 150),
        }
    )

    def sites(self, layer: int) -> HorenConfig:
        """Return what is read and written, in the words of :class:`horen.HorenConfig`, with the layer as a number."""
        return self.reading(f"mlp_hidden@{layer}", self.read_share)
