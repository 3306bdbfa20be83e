"""The index of a codebook, where the settings want one."""

from __future__ import annotations

from horen.config import HorenConfig
from horen.errors import ConfigError
from horen.extras import need
from horen.memory import Codebook
from horen.memory.aids import Index, part


def give_index(codebook: Codebook, config: HorenConfig) -> None:
    """Let a codebook use an index if the settings say so.

    Raises:
        ConfigError: when the room search/ of the memory is missing.
        MissingExtraError: when the package for it is not installed.
    """
    if config.index == "approximate":
        codebook.use(_index(codebook.keys.shape[1], config))


def check_index(config: HorenConfig) -> None:
    """Raise what :func:`give_index` raises, before there is a codebook."""
    if config.index == "approximate":
        _index(1, config)


def _index(dimension: int, config: HorenConfig) -> Index:
    make = part("Index")
    if make is None:
        raise ConfigError(
            "index='approximate' needs horen.memory.search, which is not part of this copy of horen: install the whole "
            "package, or choose index='exact', which misses nothing."
        )
    need("index", "faiss", "index='approximate' needs", ", or choose index='exact', which misses nothing")
    index: Index = make(dimension, config.index_candidates)
    return index
