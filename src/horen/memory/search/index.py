"""Four-bit codes of keys that propose near ones by far faster than the keys can be read, and may miss some.

They are product codes (Jégou et al. 2011), scanned in the processor's registers (André et al. 2017), by the package
faiss. Nothing that they say is an answer: whoever asks rescores what they propose with the keys themselves.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from horen.memory.keys import Keys
from horen.memory.search.blocks import parts
from horen.memory.search.sketch import SketchedKeys

# From so many keys on the exact search takes long enough for what may be missed.
FROM = 1 << 16
# Most keys without codes that a look-up reads one by one.
BESIDE = 1 << 10
# Most candidates that are taken; who needs more searches exactly.
MOST = 1 << 12
# Parts of a key that have a code each: 32 bytes a key.
_PARTS, _BITS = 64, 4
# Keys that the codes are fitted to, and that are coded at a time.
_SAMPLE = _TOGETHER = 1 << 14


class Index:
    """Codes of the keys of one growing table, of which they may lack the last ones.

    What is new is coded when it is asked for, a thousand keys at a time; when the keys have doubled, all are coded anew
    by codes that are fitted to them, so that a key costs the same on average. Safe while other threads ask.

    Args:
        dimension: d of the keys.
        candidates: how many keys are rescored at least.

    Raises:
        ImportError: when the package faiss is not installed.
    """

    def __init__(self, dimension: int, candidates: int) -> None:
        self.candidates = candidates
        self._faiss: Any = importlib.import_module("faiss")
        self._dimension = dimension
        self._codes: Any = None
        self._fitted = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return 0 if self._codes is None else int(self._codes.code_size) * self._length

    def fresh(self) -> Index:
        """Return an index of the same kind that knows no key."""
        return Index(self._dimension, self.candidates)

    def take(self, keys: Keys) -> int:
        """Have nearly all of [N, d] float32 keys on the CPU coded, and say how many from the front are."""
        with self._lock:
            if len(keys) - self._length > BESIDE:
                if len(keys) >= 2 * self._fitted:
                    self._codes, self._fitted = self._made_for(keys), len(keys)
                for part in parts(len(keys) - self._length, _TOGETHER):
                    # Where the codes end is asked anew: an interruption may have come between.
                    first = self._length
                    self._codes.add(self._rows(keys[first : first + part.stop - part.start]))
            return min(self._length, len(keys))

    def propose(self, queries: Tensor, count: int) -> Tensor:
        """Return the numbers [B, count] int64 of keys near [B, d] queries, in no order.

        Where there are not so many, the rest are −1.
        """
        rows = self._rows(queries)
        with self._lock:
            return torch.from_numpy(self._codes.search(rows, count)[1])

    @property
    def _length(self) -> int:
        return 0 if self._codes is None else int(self._codes.ntotal)

    def _made_for(self, keys: Keys) -> Any:
        rows = self._rows(keys[:: -(-len(keys) // _SAMPLE)])
        codes = self._faiss.IndexPQFastScan(rows.shape[1], _PARTS, _BITS, self._faiss.METRIC_INNER_PRODUCT)
        # Fewer keys than usual are no reason to warn on standard error.
        codes.pq.cp.min_points_per_centroid = 1
        codes.train(rows)
        return codes

    def _rows(self, keys: Tensor) -> Any:
        """Return keys as NumPy has them, with zeros up to a multiple of the parts."""
        return pad(keys, (0, -self._dimension % _PARTS)).contiguous().numpy()


@dataclass(frozen=True)
class IndexedKeys:
    """An index as one reader of the keys may use it.

    Attributes:
        index: the codes.
        length: how many of the reader's keys, from the front, have one; the others are read one by one.
        sketch: gives the int8 copy of the keys, for what the codes cannot settle; None where there is none.
    """

    index: Index
    length: int
    sketch: Callable[[], SketchedKeys | None]

    def propose(self, queries: Tensor, count: int) -> Tensor:
        """Propose as :meth:`Index.propose` does, of the reader's own keys."""
        found = self.index.propose(queries, count)
        # There may be more by now.
        return found.masked_fill_(found >= self.length, -1)
