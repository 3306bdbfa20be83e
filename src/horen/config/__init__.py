"""Every setting, with its meaning and limits, and the presets."""

from horen.config.horen import (
    ENCODER,
    GATE_SETTINGS,
    KEY_SETTINGS,
    RECALL_SETTINGS,
    SEARCH_SETTINGS,
    STORAGE_SETTINGS,
    VALUE_SETTINGS,
    HorenConfig,
    TrainingSettings,
)
from horen.config.sites import SITES, TEXT, parse_sites, resolve_layer

__all__ = [
    "ENCODER",
    "GATE_SETTINGS",
    "KEY_SETTINGS",
    "RECALL_SETTINGS",
    "SEARCH_SETTINGS",
    "SITES",
    "STORAGE_SETTINGS",
    "TEXT",
    "VALUE_SETTINGS",
    "HorenConfig",
    "TrainingSettings",
    "parse_sites",
    "resolve_layer",
]
