"""The tables of a saved codebook: what they must fit, and the codebook of them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.config import HorenConfig
from horen.memory import Codebook, Packed
from horen.store.history import History


@dataclass(frozen=True)
class Sizes:
    """What the tables of a codebook must fit.

    Attributes:
        value: length P of a value.
        feature: length d_f of a feature.
        tokens: number V of token ids; None where all tokens count alike.
    """

    value: int
    feature: int
    tokens: int | None


def filled(keys: Tensor, values: Packed, value_of: Tensor, history: History, config: HorenConfig) -> Codebook:
    """Return a codebook of saved tables, in which the entries of a history's active edits are awake."""
    sizes, storages = (keys.shape[1], values.numbers.shape[1]), (config.storage(), config.of_keys())
    codebook = Codebook(*sizes, device=keys.device, storage=storages[0], key_storage=storages[1])
    codebook.fill(keys, values, value_of)
    asleep = torch.ones(codebook.entries, dtype=torch.bool)
    asleep[_indices(history.awake())] = False
    codebook.set_awake(asleep.nonzero()[:, 0].tolist(), False)
    return codebook


def _indices(numbers: array[int]) -> Tensor:
    return torch.frombuffer(numbers, dtype=torch.int64) if numbers else torch.empty(0, dtype=torch.int64)
