"""Rows of token ids and their padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from horen.model.devices import device_of


def left_padded(rows: Sequence[Sequence[int]], model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, attention mask and position ids, each [B, width], of rows padded on the left."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    return ids.to(device_of(model)), mask.to(device_of(model)), positions.to(device_of(model))


def plain_mask(mask: Any, given: Tensor | None, rows: int, width: int) -> Tensor | None:
    """Return the [B, S] mask of real tokens.

    It is the call's own or, where that was prepared for a cache, the one of generate.
    """
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask
    if given is None:
        return None
    spread = given.repeat_interleave(rows // len(given), dim=0)
    return pad(spread, (0, max(width - spread.shape[1], 0)), value=1)[:, :width]


def extents(mask: Tensor | None, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return [start, stop) of the real tokens of each row in this call."""
    rows, width = shape
    if mask is None or mask.ndim != 2:
        return [(0, width)] * rows
    found = []
    for row in mask[:, -width:].bool().tolist():
        real = [column for column, kept in enumerate(row) if kept]
        found.append((real[0], real[-1] + 1) if real else (0, 0))
    return found


def first_label(labels: Tensor) -> int:
    """Return the column of the first supervised token; 0 where nothing is supervised, or no prompt comes before."""
    supervised = (labels != -100).nonzero()
    return int(supervised[0]) if len(supervised) else 0
