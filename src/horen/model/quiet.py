"""A wrapped model as it is without edits, for whoever reads or trains with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from horen.model.adapter import Adapter
from horen.model.partial.frozen import frozen


@contextmanager
def quiet(adapter: Adapter) -> Iterator[None]:
    """Keep the model without edits, without dropout and with frozen weights within the block; then it is as it was."""
    with frozen(adapter.model), adapter.disabled(), adapter.uncompiled():
        yield
