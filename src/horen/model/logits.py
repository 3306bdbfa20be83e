"""Logits of the token that follows a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from horen.model.padding import left_padded


def next_logits(model: PreTrainedModel, rows: Sequence[Sequence[int]], batch: int = 8) -> list[Tensor]:
    """Return the [V] logits, on the CPU, of the token that follows each row of token ids.

    Args:
        model: wrapped or not.
        rows: token ids, fed in their order.
        batch: how many rows are fed at once, padded on the left.
    """
    untyped: Any = model
    taken = inspect.signature(type(model).forward).parameters
    # Logits of other places are of no use, and with a large vocabulary they are the most of what a call takes.
    last = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
    found: list[Tensor] = []
    for start in range(0, len(rows), batch):
        ids, mask, positions = left_padded(rows[start : start + batch], model)
        # Models without learned or rotary positions count none.
        placed = {"position_ids": positions} if "position_ids" in taken else {}
        with torch.inference_mode():
            logits = untyped(input_ids=ids, attention_mask=mask, use_cache=False, **placed, **last).logits
        found.extend(logits[:, -1].cpu().clone())
    return found
