"""What a codebook has beside its keys: an int8 copy of float ones, which changes no answer, and an index, which may."""

from __future__ import annotations

from horen.memory.keys import Int8Keys, Keys
from horen.memory.search import index as codes
from horen.memory.search import sketch as small
from horen.memory.search.index import Index, IndexedKeys
from horen.memory.search.sketch import Sketch, SketchedKeys, fits


class Copies:
    """The copies of the keys of one growing table.

    Args:
        dimension: d of the keys.
        sketch: the int8 copy so far; None begins one.
        index: what proposes candidates; None where all keys are searched.
    """

    def __init__(self, dimension: int, sketch: Sketch | None = None, index: Index | None = None) -> None:
        self._dimension = dimension
        self._sketch = Sketch(dimension) if sketch is None else sketch
        self.index = index

    def using(self, index: Index) -> Copies:
        """Return the same with an index."""
        return Copies(self._dimension, self._sketch, index)

    def fresh(self) -> Copies:
        """Return copies of the same kind that know no key."""
        return Copies(self._dimension, index=self.index and self.index.fresh())

    def beside(self, keys: Keys) -> tuple[SketchedKeys | None, IndexedKeys | None]:
        """Return what a search has beside [N, d] keys: an int8 copy of them or, where there are very many, an index."""
        # On an accelerator all keys are read at once.
        if self.index is None or len(keys) < codes.FROM or keys.device.type != "cpu":
            return self.sketched(keys), None
        return None, IndexedKeys(self.index, self.index.take(keys), lambda: self.sketched(keys))

    def sketched(self, keys: Keys) -> SketchedKeys | None:
        """Return the keys as integers, where these pay: those that are stored, or an int8 copy."""
        if len(keys) < small.FROM or not fits(keys):
            return None
        return SketchedKeys.stored(keys) if isinstance(keys, Int8Keys) else self._sketch.take(keys)
