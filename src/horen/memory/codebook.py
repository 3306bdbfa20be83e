"""The codebook: growing tables of keys and values, with rows that can be put to sleep and woken again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from horen.memory import aids
from horen.memory.aids import Index
from horen.memory.gate import Gate, Scoring
from horen.memory.hopfield import crowd
from horen.memory.keys import Int8Keys, KeyStorage, KeyTable
from horen.memory.matching import Candidates, Match, Stand, candidates, match, surely, waking
from horen.memory.plain import Ranking, nearest_others
from horen.memory.recall import about
from horen.memory.table import Table
from horen.memory.values import Packed, Storage, Values

_Found = TypeVar("_Found")

# Look-ups are made so often before changes have to wait for them.
_TRIES = 3


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


class Codebook:
    """N entries (key, value), several of which may share a value.

    Entries and values are numbered in the order of insertion and never move, so a number stays good for as long as
    the codebook lives. Removing an edit puts its entries to sleep; undoing the removal wakes them, bit for bit.

    One thread writes at a time, in amortised O(1) for each entry. Others may read meanwhile: they see every entry whole
    or not at all, a value before the entries that name it, and what is changed :meth:`together` at once.

    Args:
        key_dimension: d_k.
        value_dimension: length P of one value: d_v for a vector, 2·r·d_v for a low-rank map.
        device: where the tables live.
        storage: in which numbers values are stored.
        key_storage: in which numbers keys are stored.
    """

    def __init__(
        self,
        key_dimension: int,
        value_dimension: int,
        *,
        device: torch.device | None = None,
        storage: Storage = Storage(),  # noqa: B008 - immutable
        key_storage: KeyStorage = KeyStorage(),  # noqa: B008 - immutable
    ) -> None:
        device = device or torch.device("cpu")
        self._keys = KeyTable(key_dimension, key_storage, device)
        self._values = Values(value_dimension, storage, device)
        self._value_of = Table((), torch.int64, device)
        self._awake = Table((), torch.bool, device)
        self._copies = aids.copies(key_dimension)
        # Beside the mask, so that an interrupted change can be made again and nothing is counted twice.
        self._asleep: set[int] = set()
        # Who moves the tables to another device only wants to read, so it may be any thread.
        self._writing = threading.RLock()
        self._unseen = False
        #: Changes whenever what can be retrieved does, and right after.
        self.revision = 0
        self._publish()

    def __len__(self) -> int:
        """Return the number of awake entries."""
        return self._stand.count

    @property
    def entries(self) -> int:
        """Number of entries, asleep ones included."""
        return len(self._awake)

    @property
    def keys(self) -> Tensor:
        """[entries, d_k] view of the numbers that are stored, asleep ones included."""
        keys = self._stand.keys
        return keys.numbers if isinstance(keys, Int8Keys) else keys

    @property
    def values(self) -> Tensor:
        """[values, P] view of the numbers that are stored, asleep ones included."""
        return self._values.rows.numbers

    @property
    def packed(self) -> Packed:
        """Views of all that is stored of the values, asleep ones included."""
        return self._values.rows

    @property
    def value_of(self) -> Tensor:
        """[entries] int64 view: the value's number of each entry."""
        return self._stand.value_of

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and the value's number of each key as they are stored, asleep ones included.

        What is made of them does not count: an int8 copy of float keys, or how long integer ones are.
        """
        return self.keys.nbytes + self.packed.nbytes + self.value_of.nbytes

    def read_keys(self, entries: Sequence[int] | Tensor) -> Tensor:
        """Return [n, d_k] float32 keys of some entries."""
        keys = self._stand.keys
        return keys[torch.as_tensor(entries, dtype=torch.int64, device=keys.device)]

    def read_values(self, numbers: Sequence[int]) -> Tensor:
        """Return [n, P] float32 values of some numbers."""
        return self._values.rows[numbers].floats()

    def add_value(self, value: Tensor) -> int:
        """Store a float32 value [P], rounded as its storage asks for, and return its number."""
        with self._writing:
            self._values.append(value[None])
            return len(self._values) - 1

    def add_entries(self, keys: Tensor, value: int) -> range:
        """Store [n, d_k] float32 unit keys that share one value; returns the entries' numbers.

        They are rounded as their storage asks for.
        """
        with self._writing:
            first = self.entries
            self._keys.append(keys)
            self._value_of.append(torch.full((len(keys),), value))
            self._awake.append(torch.ones(len(keys), dtype=torch.bool))
            self._publish()
            return range(first, first + len(keys))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let readers see what is changed within the block when it ends, all of it at once."""
        with self._writing:
            before, self._unseen = self._unseen, True
            try:
                yield
            finally:
                self._unseen = before
                try:
                    self._publish()
                except BaseException:  # an interruption on the way into it
                    self._publish()
                    raise

    def fill(self, keys: Tensor, values: Packed, value_of: Tensor) -> None:
        """Take over saved tables, every entry awake: [n, d_k] as they are stored, m values and [n] int64 below m.

        Nothing is copied, so tables that are mapped from a file are read when they are needed; they must not change
        from now on.

        Raises:
            RuntimeError: when shapes or storage do not fit this codebook or each other, or it holds something.
        """
        if len(keys) != len(value_of) or (
            len(value_of) and not 0 <= int(value_of.min()) <= int(value_of.max()) < len(values)
        ):
            raise RuntimeError(f"{len(keys)} keys, {len(value_of)} value numbers and {len(values)} values do not match")
        self._values.adopt(values)
        self._keys.adopt(keys)
        self._value_of.adopt(value_of)
        self._awake.append(torch.ones(len(keys), dtype=torch.bool))
        self._publish()

    def extend(self, keys: Tensor, values: Packed, value_of: Tensor) -> range:
        """Add saved rows behind those that are there, every entry awake; return the entries' numbers.

        Args:
            keys: [n, d_k] as they are stored.
            values: m of them as they are stored.
            value_of: [n] int64, below the number of values that there are then.

        Raises:
            RuntimeError: when shapes or storage do not fit this codebook or each other; nothing has changed.
        """
        with self._writing:
            entries, before = self.entries, len(self._values)
            try:
                self._values.extend(values)
                if len(keys) != len(value_of) or (len(value_of) and not 0 <= int(value_of.max()) < len(self._values)):
                    raise RuntimeError(f"{len(keys)} keys and {len(value_of)} value numbers do not match")
                self._keys.extend(keys)
                self._value_of.append(value_of)
                self._awake.append(torch.ones(len(keys), dtype=torch.bool))
            except BaseException:
                self.truncate(entries=entries, values=before)
                raise
            self._publish()
            return range(entries, self.entries)

    def use(self, index: Index) -> None:
        """Search from now on the candidates that a new index proposes, where there are enough keys."""
        assert self._copies is not None  # noqa: S101 - an index is of the same room
        self._copies = self._copies.using(index)
        self._publish()

    def set_awake(self, entries: Iterable[int], awake: bool) -> None:
        """Put entries to sleep or wake them; a sleeping entry is never retrieved."""
        numbers = set(entries)
        if not numbers:
            return
        with self._writing:
            places = torch.tensor(sorted(numbers), dtype=torch.int64, device=self._awake.rows.device)
            self._awake.put(places, awake)
            if awake:
                self._asleep -= numbers
            else:
                self._asleep |= numbers
            self._publish()

    def truncate(self, *, entries: int, values: int) -> None:
        """Forget every entry and value numbered from the given counts on: the way back from a failed insertion."""
        with self._writing:
            self._asleep = {number for number in self._asleep if number < entries}
            for table in (self._keys, self._value_of, self._awake):
                table.truncate(entries)
            # A reader of the former state may still copy keys that are gone, so those copies are no longer ours.
            self._copies = self._copies and self._copies.fresh()
            self._publish()
            self._values.truncate(values)

    def to(self, device: torch.device) -> None:
        """Move every table to a device, in place."""
        with self._writing:
            for table in (self._keys, self._values, self._value_of, self._awake):
                table.to(device)
            self._publish()

    def settled(self, look: Callable[[], _Found]) -> _Found:
        """Return what several look-ups find in one state.

        They are made again where what is stored changed meanwhile.
        """
        for _ in range(_TRIES):
            before = self.revision
            try:
                found = look()
            except Exception:
                if self.revision == before:
                    raise
                continue
            if self.revision == before:
                return found
        with self._writing:  # changes come too fast: they wait this once
            return look()

    def _publish(self) -> None:
        """Let readers see the tables as they are."""
        if self._unseen:
            return
        keys, awake = self._keys.rows, self._awake.rows if self._asleep else None
        self._stand = Stand(keys, self._value_of.rows, awake, len(keys) - len(self._asleep), self._copies)
        # A reader that notes the number first and looks up then may look once too often, never once too little.
        self.revision += 1

    def nearest(self, queries: Tensor) -> list[tuple[int, float]] | None:
        """Return number and cosine of the nearest awake entry to each of [B, d_k] queries, unrefined.

        It is None when the codebook is empty. An index is not asked.
        """
        stand = self._stand
        if not stand.count:
            return None
        found = surely(stand, queries, 1, (stand.sketched(), None))
        return list(zip(found.index[:, 0].tolist(), found.similarity[:, 0].tolist(), strict=True))

    def match(self, queries: Tensor, gate: Gate) -> list[Match]:
        """Return the nearest awake entry to each of [B, d_k] unit queries; an empty codebook gives an empty list."""
        return match(self._stand, queries, gate)

    def waking(
        self, queries: Tensor, gate: Gate, *, above: float | None = None, prompts: Tensor | None = None
    ) -> list[Match | None]:
        """Return what :meth:`match` finds for those that may fire; see :func:`horen.memory.matching.waking`."""
        return waking(self._stand, queries, gate, above=above, prompts=prompts)

    def candidates(self, queries: Tensor, scoring: Scoring, count: int) -> tuple[Candidates, Tensor] | None:
        """Return the entries nearest to [B, d_k] queries and [entries] their values' numbers.

        They are None when nothing is awake. See :func:`horen.memory.matching.candidates`.
        """
        stand = self._stand
        if not stand.count or not len(queries):
            return None
        return candidates(stand, queries, scoring, count), stand.value_of

    def recall(self, count: int) -> float | None:
        """Return the share of so many queries whose nearest awake entry the index finds.

        The queries lie about awake keys as rephrases do. It is None where no index is asked.
        """
        stand = self._stand
        index = stand.aids()[1]
        if index is None or not stand.count:
            return None
        queries = about(stand.keys if stand.awake is None else stand.keys[stand.awake], count)
        sure = surely(stand, queries, 1, (stand.sketched(), None)).similarity[:, 0]
        found = surely(stand, queries, 1, (None, index)).similarity[:, 0]
        return float((found >= sure).float().mean())

    def surroundings(self, query: Tensor, count: int, scoring: Scoring, *, among: int | None = None) -> Surroundings:
        """Return the ``count`` awake entries that a unit query [d_k] ends nearest to, and how it gets there.

        The scores are those of :meth:`match`; fewer entries are given where fewer are awake. Steps weigh all keys, or
        the nearest ``among`` alone, as those of :meth:`candidates` do.

        Raises:
            ValueError: when no entry is awake.
        """
        stand = self._stand
        if not stand.count:
            raise ValueError("The codebook is empty: there is nothing around a query.")
        keys, awake = stand.keys, stand.awake
        if among is not None:
            near = min(among, stand.count)
            keys, awake = stand.keys[surely(stand, query[None], near, stand.aids()).index[0, :near]], None
        path = scoring.way(query[None], keys, awake=awake).squeeze(1)
        size, count = min(scoring.neighbours, len(stand.keys)), min(count, stand.count)
        sketch, index = stand.aids()
        row = torch.zeros(1, dtype=torch.int64, device=stand.keys.device)
        for rank in aids.attempts(path[-1:], stand.keys, count + size, awake=stand.awake, sketch=sketch, index=index):
            ranked = rank(row)
            # Every entry against its own crowd: the ranking is the same for each.
            each = Ranking(
                ranked.similarity.expand(count, -1), ranked.index.expand(count, -1), ranked.known.expand(count)
            )
            around, _, certain = nearest_others(each, stand.value_of, stand.value_of[ranked.index[0, :count]], size)
            if bool(certain.all()) and int(ranked.known) >= count:
                break
        entries = ranked.index[0, :count]
        similarities = torch.cat([path[:-1] @ stand.keys[entries].T, ranked.similarity[:, :count]])
        crowds = crowd(around, scoring.neighbours)
        return Surroundings(path, entries, similarities, crowds, scoring.score(similarities[-1], crowds))
