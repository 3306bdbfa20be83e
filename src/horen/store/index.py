"""The index of a codebook, where the settings want one."""

from __future__ import annotations

from horen.config import HorenConfig
from horen.extras import need
from horen.memory import Codebook
from horen.memory.search.index import Index


def give_index(codebook: Codebook, config: HorenConfig) -> None:
    """Let a codebook use an index if the settings say so.

    Raises:
        MissingExtraError: when the package for it is not installed.
    """
    if config.index == "approximate":
        codebook.use(_index(codebook.keys.shape[1], config))


def check_index(config: HorenConfig) -> None:
    """Raise MissingExtraError when settings want an index and the package for it is not installed."""
    if config.index == "approximate":
        _index(1, config)


def _index(dimension: int, config: HorenConfig) -> Index:
    need("index", "faiss", "index='approximate' needs", ", or choose index='exact', which misses nothing")
    return Index(dimension, config.index_candidates)
