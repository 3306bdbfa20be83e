"""The codebook: growing tables of keys and values, with rows that can be put to sleep and woken again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory.gate import Gate, Scoring
from horen.memory.hopfield import crowd, nearest_others, trajectory


@dataclass(frozen=True)
class Match:
    """The nearest entry to one query.

    Attributes:
        entry: number of the nearest entry.
        value: number of the entry's value.
        similarity: cosine after refinement.
        raw_similarity: cosine before refinement.
        score: ``similarity`` less γ times the crowd's, which the threshold is compared with.
        fired: whether ``score`` exceeds the threshold and ``similarity`` leads the runner-up's by the margin.
        runner_up: number of the nearest entry with another value, or None.
        runner_up_similarity: its cosine after refinement, or None.
    """

    entry: int
    value: int
    similarity: float
    raw_similarity: float
    score: float
    fired: bool
    runner_up: int | None
    runner_up_similarity: float | None


@dataclass(frozen=True)
class Surroundings:
    """What lies around one query, the entry nearest to the refined query first.

    Attributes:
        path: [T + 1, d_k] the query as it came and after each Hopfield step.
        entries: [n] int64 numbers of awake entries.
        similarities: [T + 1, n] their cosines with the path's points.
        crowds: [n] for each of them the mean cosine of the nearest entries with another value, after the last step.
        scores: [n] what the threshold would be compared with if that entry were the nearest.
    """

    path: Tensor
    entries: Tensor
    similarities: Tensor
    crowds: Tensor
    scores: Tensor


class _Table:
    """Rows appended in amortised O(1): the buffer doubles when it is full."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._buffer = torch.empty((0, *shape), dtype=dtype, device=device)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> Tensor:
        """A view of the rows in use."""
        return self._buffer[: self._length]

    def append(self, rows: Tensor) -> None:
        needed = self._length + len(rows)
        if needed > len(self._buffer):
            grown = self._buffer.new_empty((max(needed, 2 * len(self._buffer), 64), *self._buffer.shape[1:]))
            grown[: self._length] = self.rows
            self._buffer = grown
        self._buffer[self._length : needed] = rows.to(self._buffer)
        self._length = needed

    def truncate(self, length: int) -> None:
        self._length = length

    def to(self, device: torch.device) -> None:
        self._buffer = self._buffer.to(device)


class Codebook:
    """N entries (key, value), several of which may share a value.

    Entries and values are numbered in the order of insertion and never move, so a number stays good for as long as
    the codebook lives. Removing an edit puts its entries to sleep; undoing the removal wakes them, bit for bit.

    Args:
        key_dimension: d_k.
        value_dimension: length P of one value: d_v for a vector, 2·r·d_v for a low-rank map.
        device: where the tables live.
    """

    def __init__(self, key_dimension: int, value_dimension: int, *, device: torch.device | None = None) -> None:
        device = device or torch.device("cpu")
        self._keys = _Table((key_dimension,), torch.float32, device)
        self._values = _Table((value_dimension,), torch.float32, device)
        self._value_of = _Table((), torch.int64, device)
        self._awake = _Table((), torch.bool, device)
        self._awake_count = 0
        #: Changes whenever what can be retrieved does.
        self.revision = 0

    def __len__(self) -> int:
        """Number of awake entries."""
        return self._awake_count

    @property
    def entries(self) -> int:
        """Number of entries, asleep ones included."""
        return len(self._keys)

    @property
    def keys(self) -> Tensor:
        """[entries, d_k] float32 view, asleep ones included."""
        return self._keys.rows

    @property
    def values(self) -> Tensor:
        """[values, P] float32 view, asleep ones included."""
        return self._values.rows

    @property
    def value_of(self) -> Tensor:
        """[entries] int64 view: the value's number of each entry."""
        return self._value_of.rows

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and the value's number of each key, asleep ones included."""
        return sum(table.nbytes for table in (self.keys, self.values, self.value_of))

    def add_value(self, value: Tensor) -> int:
        """Store a value [P] and return its number."""
        self._values.append(value[None])
        return len(self._values) - 1

    def add_entries(self, keys: Tensor, value: int) -> range:
        """Store [n, d_k] unit keys that share one value; returns the entries' numbers."""
        self.revision += 1
        first = self.entries
        self._keys.append(keys)
        self._value_of.append(torch.full((len(keys),), value))
        self._awake.append(torch.ones(len(keys), dtype=torch.bool))
        self._awake_count += len(keys)
        return range(first, first + len(keys))

    def fill(self, keys: Tensor, values: Tensor, value_of: Tensor) -> None:
        """Take over saved tables, every entry awake: [n, d_k], [m, P] and [n] int64 below m.

        Raises:
            RuntimeError: when the shapes do not fit this codebook or each other.
        """
        if len(keys) != len(value_of) or (
            len(value_of) and not 0 <= int(value_of.min()) <= int(value_of.max()) < len(values)
        ):
            raise RuntimeError(f"{len(keys)} keys, {len(value_of)} value numbers and {len(values)} values do not match")
        self._keys.append(keys)
        self._values.append(values)
        self._value_of.append(value_of)
        self._awake.append(torch.ones(len(keys), dtype=torch.bool))
        self._awake_count += len(keys)

    def set_awake(self, entries: Iterable[int], awake: bool) -> None:
        """Put entries to sleep or wake them; a sleeping entry is never retrieved."""
        index = torch.tensor(sorted(set(entries)), dtype=torch.int64, device=self._awake.rows.device)
        if not len(index):
            return
        self.revision += 1
        before = int(self._awake.rows[index].sum())
        self._awake.rows[index] = awake
        self._awake_count += (len(index) if awake else 0) - before

    def truncate(self, *, entries: int, values: int) -> None:
        """Forget every entry and value numbered from the given counts on: the way back from a failed insertion."""
        self.revision += 1
        self._awake_count -= int(self._awake.rows[entries:].sum())
        for table in (self._keys, self._value_of, self._awake):
            table.truncate(entries)
        self._values.truncate(values)

    def to(self, device: torch.device) -> None:
        """Move every table to a device, in place."""
        for table in (self._keys, self._values, self._value_of, self._awake):
            table.to(device)

    def nearest(self, queries: Tensor) -> list[tuple[int, float]] | None:
        """Number and cosine of the nearest awake entry to each of [B, d_k] queries, unrefined; None when empty."""
        if not len(self):
            return None
        scores = queries @ self.keys.T
        if len(self) < self.entries:
            scores = scores.masked_fill(~self._awake.rows, -torch.inf)
        similarity, index = scores.max(dim=-1)
        return list(zip(index.tolist(), similarity.tolist(), strict=True))

    def match(self, queries: Tensor, gate: Gate) -> list[Match]:
        """The nearest awake entry to each of [B, d_k] unit queries; an empty codebook gives an empty list."""
        if not len(self) or not len(queries):
            return []
        found, scores = gate.retrieve(queries, self.keys, self.value_of, awake=self._mask())
        columns = (
            found.index.tolist(),
            self.value_of[found.index].tolist(),
            found.similarity.tolist(),
            found.raw_similarity.tolist(),
            scores.tolist(),
            found.runner_up.tolist(),
            found.runner_up_similarity.tolist(),
        )
        return [
            Match(
                entry=entry,
                value=value,
                similarity=similarity,
                raw_similarity=raw,
                score=score,
                fired=score > gate.threshold and similarity - runner_similarity >= gate.margin,
                runner_up=None if runner < 0 else runner,
                runner_up_similarity=None if runner < 0 else runner_similarity,
            )
            for entry, value, similarity, raw, score, runner, runner_similarity in zip(*columns, strict=True)
        ]

    def surroundings(self, query: Tensor, count: int, scoring: Scoring) -> Surroundings:
        """The ``count`` awake entries that a unit query [d_k] ends nearest to, and how it gets there.

        The scores are those of :meth:`match`; fewer entries are given where fewer are awake.

        Raises:
            ValueError: when no entry is awake.
        """
        if not len(self):
            raise ValueError("The codebook is empty: there is nothing around a query.")
        awake = self._mask()
        path = trajectory(
            query[None],
            self.keys,
            alpha=scoring.alpha,
            beta=scoring.beta,
            steps=scoring.steps,
            epsilon=scoring.epsilon,
            awake=awake,
        ).squeeze(1)
        cosines = path @ self.keys.T
        if awake is not None:
            cosines = cosines.masked_fill(~awake, -torch.inf)
        # Among equals the first, as match has it.
        entries = cosines[-1].argsort(descending=True, stable=True)[: min(count, len(self))]
        # One entry at a time: as a batch it would take count × N numbers.
        size, values = scoring.neighbours, self.value_of
        around = [nearest_others(cosines[-1:], values, own[None], size)[0] for own in values[entries]]
        crowds = torch.cat([crowd(nearest, size) for nearest in around])
        similarities = cosines[:, entries]
        return Surroundings(path, entries, similarities, crowds, scoring.score(similarities[-1], crowds))

    def _mask(self) -> Tensor | None:
        """[entries] bool, which are awake; None where all are."""
        return None if len(self) == self.entries else self._awake.rows
