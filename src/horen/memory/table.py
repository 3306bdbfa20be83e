"""Tables that grow at their end while other threads read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Table:
    """Rows appended in amortised O(1): the buffer doubles when it is full.

    One thread writes at a time. Others may read :attr:`rows` meanwhile: what they got stays as it is, because rows are
    published after they are written and a row that was published is never written again, only forgotten.

    Args:
        shape: of one row.
        dtype: of the numbers.
        device: where they live.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._buffer = torch.empty((0, *shape), dtype=dtype, device=device)
        self._rows = self._buffer

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Tensor:
        """A view of the rows in use."""
        return self._rows

    def append(self, rows: Tensor) -> None:
        """Add rows, converted to the table's dtype and device."""
        with _plain():
            self._append(rows)

    def _append(self, rows: Tensor) -> None:
        used, needed = len(self._rows), len(self._rows) + len(rows)
        buffer = self._buffer
        if needed > len(buffer):
            buffer = buffer.new_empty((max(needed, 2 * len(buffer), 64), *buffer.shape[1:]))
            buffer[:used] = self._rows
        buffer[used:needed] = rows.to(buffer)
        self._buffer, self._rows = buffer, buffer[:needed]

    def adopt(self, rows: Tensor) -> None:
        """Take the place of nothing by rows as they are, without a copy; they must not change from now on.

        Raises:
            RuntimeError: when the table holds rows, or these are of another shape.
        """
        if len(self._rows) or rows.shape[1:] != self._buffer.shape[1:]:
            raise RuntimeError(f"rows of shape {tuple(rows.shape[1:])} do not fit this table")
        self._buffer = self._rows = rows.to(self._buffer)

    def put(self, places: Tensor, row: Tensor | float) -> None:
        """Let one row take the place of some, [n] int64; whoever reads the rows as they were is left with them."""
        with _plain():
            rows = self._rows.clone()
            rows[places] = row
            self._buffer = self._rows = rows

    def truncate(self, length: int) -> None:
        """Forget the rows from ``length`` on."""
        # The buffer ends here too: whoever still reads the forgotten rows must not see others in their place.
        self._buffer = self._rows = self._rows[:length]

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        with _plain():
            self._buffer = self._rows = self._rows.to(device)


@contextmanager
def _plain() -> Iterator[None]:
    """Use neither gradients nor inference mode within the block.

    What is made in that could not be written outside it.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield
