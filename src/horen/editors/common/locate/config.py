"""The settings that locate-then-edit methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from horen.config import TrainingSettings
from horen.config.settings import setting
from horen.editors.common.locate.openings import MOST_OPENINGS

#: What the released configurations for GPT-2 XL of ROME, MEMIT and AlphaEdit have in common.
RELEASED: Mapping[str, Any] = MappingProxyType(
    {
        "preset": "paper",
        "optimizer": "adam",
        "learning_rate": 0.5,
        "learning_rate_unit": "absolute",
        "max_steps": 20,
        "stop_probability": 0.951,
        "train_end": False,
        "precision": "model",
        "weight_decay": 0.5,
        "tokens": 100_000,
    }
)


@dataclass(frozen=True)
class LocateConfig(TrainingSettings):
    """Settings of a method that writes a fact at its subject's last token.

    ``default`` trains as HoReN's default preset trains: rates in units of the site, and the end token trained.
    ``paper`` is the released recipe for GPT-2 XL; its early stop at a loss of 0.05 nats (the penalties included) is a
    probability of 0.951 of every target token here.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    prefixes: int = setting(
        5,
        "how many texts are put before a wording, beside none, when its key is averaged and its value trained; the "
        "openings of bundled paragraphs, where the published methods let the model write them",
        low=0,
        high=MOST_OPENINGS,
    )
    kl_weight: float = setting(
        0.0625,
        "weight of KL(edited‖untouched) in nats of what follows '{subject} is a'; 0.0625 is the released number",
        low=0,
    )
    weight_decay: float = setting(
        0.05,
        "weight λ of a value's length: λ‖δ‖/‖m‖ nats, m being what δ is added to; with learning_rate_unit=absolute "
        "λ‖δ‖/‖m‖² as in the released configurations",
        low=0,
    )
    max_norm: float = setting(
        4.0, "a value is at most this many times as long as what it is added to", low=0, open_low=True
    )
    max_steps: int = setting(25, "most optimisation steps an edit may take", low=1)
    stop_probability: float = setting(
        0.9,
        "an edit has converged when every target token has at least this probability in every training context, each "
        "divided by the exponential of the penalties; 1 never stops early",
        low=0,
        high=1,
        open_low=True,
    )
    text: str = setting(
        "",
        "file of plain text (UTF-8) on which C is measured; empty: paragraphs and prompts that come with the package",
    )
    tokens: int = setting(
        20_000, "most tokens of the text that C is measured on; published: 100,000 of Wikipedia", low=2
    )
