"""The part of a prompt that no value changes: its keys and values, each beginning that prompts share run once.

Many training prompts begin alike: a chat template's scaffold, or the same paragraph. Such a stem is run once and its
keys and values serve every prompt that begins with it. Rows are padded on the right here, where under causal attention
nothing real can see the padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from horen.errors import ModelError

States = tuple[Tensor, Tensor]

# A shorter stem costs more in calls than it saves in tokens.
_LEAST_STEM = 8
_ROWS_TOGETHER = 32


@dataclass(frozen=True)
class Stem:
    """Rows that begin with the same ``length`` tokens."""

    length: int
    rows: tuple[int, ...]


def stems(rows: Sequence[Sequence[int]]) -> list[Stem]:
    """Rows grouped by what they begin with; every row is in one group, and groups without a stem have length 0.

    In the order of their tokens, rows join the group before them as long as that saves no fewer tokens than the group
    saved without them.
    """
    order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: tuple(rows[i]))
    groups: list[Stem] = []
    group: list[int] = []
    length = 0
    for i in order:
        common = min(_common(rows[group[0]], rows[i]), length) if group else 0
        if group and common >= _LEAST_STEM and common * len(group) >= length * (len(group) - 1):
            group.append(i)
            length = common
            continue
        if group:
            groups.append(Stem(length, tuple(group)))
        group, length = [i], len(rows[i])
    if group:
        groups.append(Stem(length, tuple(group)))
    single = tuple(i for stem in groups if len(stem.rows) == 1 for i in stem.rows)
    shared = [stem for stem in groups if len(stem.rows) > 1]
    return [*shared, Stem(0, single)] if single else shared


def prefix_states(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> dict[int, States]:
    """Keys and values of every layer for rows of token ids, without gradients.

    Args:
        model: in evaluation mode; hooks that it carries run.
        rows: B rows of at most S tokens; not all empty.

    Returns:
        for each layer keys and values, each [B, heads, S, d], padded with zeros on the left.

    Raises:
        ModelError: when a layer keeps something else than keys and values.
    """
    run = _Run(model, rows)
    groups = stems(rows)
    shared = [stem for stem in groups if stem.length]
    for together in _split(sorted(shared, key=lambda stem: stem.length)):
        beginnings = run.forward([rows[stem.rows[0]][: stem.length] for stem in together], None)
        for number, stem in enumerate(together):
            past = {n: (k[number : number + 1], v[number : number + 1]) for n, (k, v) in beginnings.items()}
            past = {n: (k[:, :, : stem.length], v[:, :, : stem.length]) for n, (k, v) in past.items()}
            run.add(stem, past)
    for stem in groups:
        if not stem.length:
            run.add(stem, None)
    return run.found


class _Run:
    def __init__(self, model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> None:
        self._model, self._rows = model, rows
        self._width = max(len(row) for row in rows)
        self.found: dict[int, States] = {}

    def add(self, stem: Stem, past: dict[int, States] | None) -> None:
        """Run what rows have after their stem and lay their keys and values down."""
        ends = [i for i in stem.rows if len(self._rows[i]) == stem.length]
        if past is not None:
            for i in ends:
                self._lay(i, past, stem.length, 0)
        longer = sorted((i for i in stem.rows if len(self._rows[i]) > stem.length), key=lambda i: len(self._rows[i]))
        for together in _split(longer):
            states = self.forward([self._rows[i][stem.length :] for i in together], past)
            for number, i in enumerate(together):
                self._lay(i, states, len(self._rows[i]), number)

    def forward(self, rows: Sequence[Sequence[int]], past: dict[int, States] | None) -> dict[int, States]:
        """Keys and values of ``past`` (one row for all) and of ``rows`` after it, padded on the right."""
        device = self._model.device
        before = past[0][0].shape[2] if past is not None else 0
        width = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), before + width, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : before + len(row)] = 1
        cache = DynamicCache()
        for number, (keys, values) in (past or {}).items():
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), number)
        self._model.base_model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=torch.arange(before, before + width, device=device).expand(len(rows), -1),
            past_key_values=cache,
            use_cache=True,
        )
        return {number: _states(layer) for number, layer in enumerate(cache.layers)}

    def _lay(self, i: int, states: dict[int, States], length: int, number: int) -> None:
        for layer, given in states.items():
            if layer not in self.found:
                keys, values = (s.new_zeros(len(self._rows), s.shape[1], self._width, s.shape[3]) for s in given)
                self.found[layer] = keys, values
            for whole, part in zip(self.found[layer], given, strict=True):
                whole[i, :, self._width - length :] = part[number, :, :length]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _split(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _ROWS_TOGETHER):
        yield items[start : start + _ROWS_TOGETHER]


def _states(layer: Any) -> States:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor):
        raise ModelError(
            f"The cache of this model holds a {type(layer).__name__}, not keys and values: "
            "only models whose layers all attend can be edited."
        )
    return keys, values
