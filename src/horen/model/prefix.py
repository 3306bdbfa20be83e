"""The part of a prompt that no value changes: its keys and values, each beginning that prompts share run once.

Many training prompts begin alike: a chat template's scaffold, or the same paragraph. Such a stem is run once and its
keys and values serve every prompt that begins with it. Rows are padded on the right here, where under causal attention
nothing real can see the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from horen.errors import ModelError
from horen.model.alone import here, instead
from horen.model.devices import device_of
from horen.model.layout import Site, first_tensor, rewritten
from horen.model.past import past_argument
from horen.model.precision import bfloat16_maps

States = tuple[Tensor, Tensor]
Written = Mapping[tuple[int, ...], Sequence[tuple[int, Tensor]]]
_Item = TypeVar("_Item")

# What a call of the model costs beyond its tokens, in tokens: a group that saves no more is not worth one.
_CALL = 32
_LEAST_KEPT = 16
# Read at once, padding included: enough that a pass over the weights is small beside it, little enough to keep.
_TOKENS_TOGETHER = 2**13


@dataclass(frozen=True)
class Stem:
    """Rows that begin with the same ``length`` tokens."""

    length: int
    rows: tuple[int, ...]


def stems(rows: Sequence[Sequence[int]]) -> list[Stem]:
    """Rows grouped by what they begin with, so that running each shared beginning once saves the most.

    Every row that has a token is in one group; those that share too little are in one of length 0.
    """
    order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: tuple(rows[i]))
    common = [shared_start(rows[one], rows[other]) for one, other in pairwise(order)]
    _, spans = _grouped(common, 0, len(order) - 1) if order else (0, [])
    shared = [Stem(min(common[first:last]), tuple(order[first : last + 1])) for first, last in spans if first < last]
    alone = tuple(order[first] for first, last in spans if first == last)
    return [*shared, Stem(0, alone)] if alone else shared


def _grouped(common: Sequence[int], first: int, last: int) -> tuple[int, list[tuple[int, int]]]:
    """What grouping the rows ``first`` to ``last`` saves at most, in tokens, and the first and last row of each group.

    Rows are in the order of their tokens, and ``common`` is what each shares with the next. A group that is to be taken
    apart is so where its neighbours share least; of several such places the middle one keeps this from going deep.
    """
    if first == last:
        return 0, [(first, last)]
    at = min(range(first, last), key=lambda i: (common[i], abs(2 * i - first - last)))
    left, right = _grouped(common, first, at), _grouped(common, at + 1, last)
    saved = common[at] * (last - first) - _CALL
    if saved > 0 and saved >= left[0] + right[0]:
        return saved, [(first, last)]
    return left[0] + right[0], [*left[1], *right[1]]


class Prefixes:
    """Keys and values of prompts' beginnings; what many of them share is run once, however they are batched.

    Args:
        model: in evaluation mode; hooks that it carries run. Nothing may change its weights meanwhile.
        rows: all rows of token ids that will be asked for.
        site: where values are written.
        written: of rows with values among their tokens the tokens' indices and the values [P].
        rough: in bfloat16 arithmetic; what comes of it has the model's own dtype, as what is asked about it has.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Iterable[Sequence[int]],
        site: Site | None = None,
        written: Written = MappingProxyType({}),
        *,
        rough: bool = False,
    ) -> None:
        self.model, self.rough, self.site, self.written = model, rough, site, written
        self.cast = bfloat16_maps([model.base_model]) if rough else {}
        self._stems: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._known: dict[tuple[int, ...], dict[int, States]] = {}
        given = [tuple(row) for row in rows]
        self._stems.update((row, ()) for row in given if written.get(row))
        plain = [row for row in given if not written.get(row)]
        for stem in stems(plain):
            beginning = plain[stem.rows[0]][: stem.length]
            self._stems.update((plain[i], beginning) for i in stem.rows)

    def states(self, rows: Sequence[Sequence[int]]) -> dict[int, States]:
        """Keys and values of every layer for rows of token ids, without gradients.

        Args:
            rows: B of those that were announced, of at most S tokens; not all empty.

        Returns:
            for each layer keys and values, each [B, heads, S, d], padded with zeros on the left.

        Raises:
            ModelError: when a layer keeps something else than keys and values.
        """
        run = _Run(self, rows)
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, row in enumerate(rows):
            if row:
                groups.setdefault(self._stems[tuple(row)], []).append(i)
        known = self._known | _begun(run, [stem for stem in groups if stem and stem not in self._known])
        for stem, members in groups.items():
            run.add(Stem(len(stem), tuple(members)), known[stem] if stem else None)
        # Thousands of questions share a few words; kept, their states would outgrow what they save.
        self._known.update((stem, states) for stem, states in known.items() if len(stem) >= _LEAST_KEPT)
        return run.found


def _begun(run: _Run, fresh: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], dict[int, States]]:
    found = {}
    for together in _split(sorted(fresh, key=len), len):
        beginnings = run.forward(together, None)
        for number, stem in enumerate(together):
            found[stem] = {
                layer: (keys[number : number + 1, :, : len(stem)], values[number : number + 1, :, : len(stem)])
                for layer, (keys, values) in beginnings.items()
            }
    return found


class _Run:
    def __init__(self, prefixes: Prefixes, rows: Sequence[Sequence[int]]) -> None:
        self._model, self._cast, self._rough = prefixes.model, prefixes.cast, prefixes.rough
        self._site, self._written = prefixes.site, prefixes.written
        self._rows = rows
        self._width = max(len(row) for row in rows)
        self.found: dict[int, States] = {}

    def add(self, stem: Stem, past: dict[int, States] | None) -> None:
        """Run what rows have after their stem and lay their keys and values down."""
        ends = [i for i in stem.rows if len(self._rows[i]) == stem.length]
        if past is not None:
            for i in ends:
                self._lay(i, past, stem.length, 0)
        longer = sorted((i for i in stem.rows if len(self._rows[i]) > stem.length), key=lambda i: len(self._rows[i]))
        for together in _split(longer, lambda i: len(self._rows[i])):
            states = self.forward([self._rows[i][stem.length :] for i in together], past)
            for number, i in enumerate(together):
                self._lay(i, states, len(self._rows[i]), number)

    def forward(self, rows: Sequence[Sequence[int]], past: dict[int, States] | None) -> dict[int, States]:
        """Keys and values of ``past`` (one row for all) and of ``rows`` after it, padded on the right."""
        device = device_of(self._model)
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
        writing = self._writing(rows, (len(rows), width))
        rough = torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._rough)
        with rough, writing, instead(self._cast):
            given = {
                "input_ids": ids.to(device),
                "attention_mask": mask.to(device),
                "position_ids": torch.arange(before, before + width, device=device).expand(len(rows), -1),
                past_argument(self._model.base_model): cache,
                "use_cache": True,
            }
            self._model.base_model(**given)
        found = {number: _states(layer) for number, layer in enumerate(cache.layers)}
        if self._rough:  # without rotary positions the states come as they were computed
            dtype = self._model.dtype
            found = {number: (keys.to(dtype), values.to(dtype)) for number, (keys, values) in found.items()}
        return found

    @contextmanager
    def _writing(self, rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> Iterator[None]:
        """Add the values that stand in rows of token ids to what the site gives for them, within the block."""
        places = [(number, *one) for number, row in enumerate(rows) for one in self._written.get(tuple(row), ())]
        site = self._site
        if site is None or not places:
            yield
            return
        at, columns, values = zip(*places, strict=True)

        def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            stacked = torch.stack(values).to(first_tensor(output).device)
            return rewritten(output, shape, at, columns, lambda hidden: site.written(stacked, hidden))

        handle = site.module.register_forward_hook(here(add))
        try:
            yield
        finally:
            handle.remove()

    def _lay(self, i: int, states: dict[int, States], length: int, number: int) -> None:
        for layer, given in states.items():
            if layer not in self.found:
                keys, values = (s.new_zeros(len(self._rows), s.shape[1], self._width, s.shape[3]) for s in given)
                self.found[layer] = keys, values
            for whole, part in zip(self.found[layer], given, strict=True):
                whole[i, :, self._width - length :] = part[number, :, :length]


def shared_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two rows share."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _split(items: Sequence[_Item], length: Callable[[_Item], int]) -> Iterator[Sequence[_Item]]:
    """Items in order of their length, as many together as may be read at once."""
    first = 0
    for last, item in enumerate(items):
        if last > first and (last + 1 - first) * length(item) > _TOKENS_TOGETHER:
            yield items[first:last]
            first = last
    if items:
        yield items[first:]


def _states(layer: Any) -> States:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor):
        raise ModelError(
            f"The cache of this model holds a {type(layer).__name__}, not keys and values: "
            "only models whose layers all attend can be edited."
        )
    return keys, values
