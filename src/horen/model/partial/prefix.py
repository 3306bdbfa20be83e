"""The part of a prompt that no value changes: its keys and values, each beginning that prompts share run once.

Many training prompts begin alike: a chat template's scaffold, or the same paragraph. Such a stem is run once and its
keys and values serve every prompt that begins with it. Rows are padded on the right here, where under causal attention
nothing real can see the padding. A row that goes on from one that is kept, as each window of a long target does, has
only its new tokens run.
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
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from horen.errors import ModelError
from horen.model.alone import here, instead
from horen.model.devices import device_of
from horen.model.layout import Site, first_tensor, rewritten
from horen.model.partial.precision import Arithmetic, bfloat16_maps, float32_maps
from horen.model.past import past_argument

States = tuple[Tensor, Tensor]
Row = tuple[int, ...]
Written = Mapping[Row, Sequence[tuple[int, Tensor]]]
# Keys and values [heads, n, d] of every layer, for rows of n tokens.
Kept = Mapping[Row, Mapping[int, States]]
_Item = TypeVar("_Item")

_READING = {Arithmetic.BFLOAT16: bfloat16_maps, Arithmetic.FLOAT32: float32_maps}
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
    """Group rows by what they begin with, so that running each shared beginning once saves the most.

    Every row that has a token is in one group; those that share too little are in one of length 0.
    """
    order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: tuple(rows[i]))
    common = [shared_start(rows[one], rows[other]) for one, other in pairwise(order)]
    _, spans = _grouped(common, 0, len(order) - 1) if order else (0, [])
    shared = [Stem(min(common[first:last]), tuple(order[first : last + 1])) for first, last in spans if first < last]
    alone = tuple(order[first] for first, last in spans if first == last)
    return [*shared, Stem(0, alone)] if alone else shared


def _grouped(common: Sequence[int], first: int, last: int) -> tuple[int, list[tuple[int, int]]]:
    """Return how many tokens grouping rows ``first`` to ``last`` saves at most, and first and last row of each group.

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
        begun: what is known of beginnings of rows with values, with all values that stand in them.
        reading: the arithmetic: the model's own, bfloat16, or float32 for a model of half precision. What comes of it
            has the model's own dtype, as what is asked about it has.

    Attributes:
        kept: keys and values of the rows with values that were asked for.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Iterable[Sequence[int]],
        site: Site | None = None,
        written: Written = MappingProxyType({}),
        *,
        begun: Kept = MappingProxyType({}),
        reading: Arithmetic = Arithmetic.MODEL,
    ) -> None:
        self.model, self.site, self.written = model, site, written
        self.rough = reading is Arithmetic.BFLOAT16
        self.cast = _READING[reading]([model.base_model]) if reading in _READING else {}
        self.kept: dict[Row, dict[int, States]] = {}
        self._begun = begun
        self._stems: dict[Row, Row] = {}
        self._known: dict[Row, dict[int, States]] = {}
        given = [tuple(row) for row in rows]
        lengths = sorted({len(row) for row in begun}, reverse=True)
        for row in given:
            if written.get(row):
                self._stems[row] = next((row[:n] for n in lengths if row[:n] in begun), ())
        plain = [row for row in given if not written.get(row)]
        for stem in stems(plain):
            beginning = plain[stem.rows[0]][: stem.length]
            self._stems.update((plain[i], beginning) for i in stem.rows)

    def states(self, rows: Sequence[Sequence[int]]) -> dict[int, States]:
        """Return keys and values of every layer for rows of token ids, without gradients.

        Args:
            rows: B of those that were announced, of at most S tokens; not all empty.

        Returns:
            for each layer keys and values, each [B, heads, S, d], padded with zeros on the left.

        Raises:
            ModelError: when a layer keeps something else than keys and values.
        """
        run = _Run(self, rows)
        groups: dict[Row, list[int]] = {}
        going_on: dict[int, Row] = {}
        for i, row in enumerate(rows):
            stem = self._stems[tuple(row)] if row else ()
            if stem and self.written.get(tuple(row)):
                going_on[i] = stem
            elif row:
                groups.setdefault(stem, []).append(i)
        known = self._known | _begun(run, [stem for stem in groups if stem and stem not in self._known])
        for stem, members in groups.items():
            run.add(Stem(len(stem), tuple(members)), known[stem] if stem else None)
        # Thousands of questions share a few words; kept, their states would outgrow what they save.
        self._known.update((stem, states) for stem, states in known.items() if len(stem) >= _LEAST_KEPT)
        run.go_on(going_on, self._begun)
        for i, row in enumerate(map(tuple, rows)):
            if self.written.get(row):
                pairs = run.found.items()
                self.kept[row] = {n: (k[i, :, -len(row) :], v[i, :, -len(row) :]) for n, (k, v) in pairs}
        return run.found


def _begun(run: _Run, fresh: Sequence[Row]) -> dict[Row, dict[int, States]]:
    found = {}
    for together in _split(fresh, len):
        beginnings = run.forward(together)
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
                self._lay(i, past, 0, 0)
        longer = [i for i in stem.rows if len(self._rows[i]) > stem.length]
        for together in _split(longer, lambda i: len(self._rows[i]) - stem.length, self._held):
            self._go_through(together, [stem.length] * len(together), past or {})

    def go_on(self, stems: Mapping[int, Row], begun: Kept) -> None:
        """Do the same for rows of which each has a beginning of its own."""
        for together in _split(stems, lambda i: len(self._rows[i]) - len(stems[i]), self._held):
            lengths = [len(stems[i]) for i in together]
            pasts = [begun[stems[i]] for i in together]
            longest = max(lengths)
            past = {
                layer: (
                    _padded([own[layer][0] for own in pasts], longest),
                    _padded([own[layer][1] for own in pasts], longest),
                )
                for layer in pasts[0]
            }
            self._go_through(together, lengths, past)

    def _held(self, i: int) -> int:
        return len(self._rows[i])

    def _go_through(self, members: Sequence[int], lengths: Sequence[int], past: Mapping[int, States]) -> None:
        """Run what rows have after so many tokens of each, and lay all of it down."""
        rows = [self._rows[i][n:] for i, n in zip(members, lengths, strict=True)]
        written = [
            [(place - n, value) for place, value in self._written.get(tuple(self._rows[i]), ()) if place >= n]
            for i, n in zip(members, lengths, strict=True)
        ]
        states = self.forward(rows, past, lengths, written)
        for number, (i, n) in enumerate(zip(members, lengths, strict=True)):
            self._lay(i, states, number, max(lengths) - n)

    def forward(
        self,
        rows: Sequence[Sequence[int]],
        past: Mapping[int, States] = MappingProxyType({}),
        lengths: Sequence[int] = (),
        written: Sequence[Sequence[tuple[int, Tensor]]] = (),
    ) -> dict[int, States]:
        """Return keys and values of ``past`` and of ``rows`` after it, padded on the right.

        Args:
            rows: B rows of tokens.
            past: of one row for all, or of B, padded on the left.
            lengths: tokens that each row has in ``past``.
            written: places in each row and the values that stand there.
        """
        device = device_of(self._model)
        before = past[0][0].shape[2] if past else 0
        width = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), before + width, dtype=torch.long)
        first = torch.tensor(lengths or [0] * len(rows))
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, before - int(first[number]) : before + len(row)] = 1
        cache = DynamicCache()
        for number, (keys, values) in past.items():
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), number)
        writing = self._writing(written, (len(rows), width))
        rough = torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._rough)
        with rough, writing, instead(self._cast):
            given = {
                "input_ids": ids.to(device),
                "attention_mask": mask.to(device),
                "position_ids": (first[:, None] + torch.arange(width)).to(device),
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
    def _writing(self, written: Sequence[Sequence[tuple[int, Tensor]]], shape: tuple[int, int]) -> Iterator[None]:
        """Write values at places of rows into what the site gives for them, within the block."""
        places = [(number, *one) for number, own in enumerate(written) for one in own]
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

    def _lay(self, i: int, states: Mapping[int, States], number: int, start: int) -> None:
        """Lay down what row ``i`` has in row ``number`` of states from a column on."""
        length = len(self._rows[i])
        for layer, given in states.items():
            if layer not in self.found:
                keys, values = (s.new_zeros(len(self._rows), s.shape[1], self._width, s.shape[3]) for s in given)
                self.found[layer] = keys, values
            for whole, part in zip(self.found[layer], given, strict=True):
                whole[i, :, self._width - length :] = part[number, :, start : start + length]


def _padded(states: Sequence[Tensor], length: int) -> Tensor:
    """Return [B, heads, length, d] of B states [heads, n, d], with zeros on the left."""
    return torch.stack([functional.pad(one, (0, 0, length - one.shape[1], 0)) for one in states])


def shared_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens two rows share."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _split(
    items: Iterable[_Item], new: Callable[[_Item], int], held: Callable[[_Item], int] | None = None
) -> Iterator[Sequence[_Item]]:
    """Yield items in groups, each padded to its longest, so that padding and calls cost least.

    No group is larger than what may be read at once, unless it is one item.

    Args:
        items: in any order.
        new: how many tokens an item has that are run.
        held: how many it has in all; by default those.
    """
    ordered = sorted(items, key=new)
    widths, sizes = [new(item) for item in ordered], [(held or new)(item) for item in ordered]
    costs, firsts = [0], [0]
    for end, width in enumerate(widths, 1):
        least, at, largest = costs[end - 1] + width, end - 1, sizes[end - 1]
        for first in range(end - 2, -1, -1):
            padded, largest = (end - first) * width, max(largest, sizes[first])
            # What stands before costs something too, so no larger group could be worth it.
            if padded >= least or (end - first) * largest > _TOKENS_TOGETHER:
                break
            if costs[first] + padded < least:
                least, at = costs[first] + padded, first
        costs.append(least + _CALL)
        firsts.append(at)
    ends = [len(ordered)]
    while ends[-1]:
        ends.append(firsts[ends[-1]])
    for first, end in pairwise(reversed(ends)):
        yield ordered[first:end]


def _states(layer: Any) -> States:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor):
        raise ModelError(
            f"The cache of this model holds a {type(layer).__name__}, not keys and values: "
            "only models whose layers all attend can be edited."
        )
    return keys, values
