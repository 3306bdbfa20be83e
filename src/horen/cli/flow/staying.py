"""What a program makes at its start and keeps to its end."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from horen.store.content import uncollected


@contextmanager
def made_to_stay() -> Iterator[None]:
    """Search for no cycles within the block, nor among what it has left, which stays as long as the program.

    The modules of torch and transformers are hundreds of thousands of objects, and so is a long history: each search
    among them finds nothing, also the last one, at the program's end.
    """
    with uncollected():
        yield
        gc.freeze()
