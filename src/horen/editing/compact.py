"""Dropping what edits that are not active have in a codebook, so that it is as large as what can be retrieved.

Entries and values that are left keep their bits and their order, and are numbered anew. The history keeps every
operation; only numbers of entries and values change in it, and what came before a compaction cannot be undone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from horen.edits import Compacted
from horen.errors import ConfigError, StoreError
from horen.memory import Packed
from horen.store import lock_folder
from horen.store.state import Saved
from horen.store.tables import filled

if TYPE_CHECKING:
    from horen.session import Session


def compact(session: Session, alone: Callable[[Callable[[], object]], None], above: float = 0.0) -> Compacted:
    """Compact an editor's codebook; see :meth:`horen.Editor.compact`.

    Args:
        session: what the editor has.
        alone: does something while nobody asks.
        above: a share of the entries; nothing is done where no more are asleep.

    Raises:
        ConfigError: for what is no share.
    """
    _check_share(above)
    history, entries, values = session.history.compacted()
    if history is session.history or not _passes(session.codebook().entries, len(entries), above):
        return Compacted()
    before = session.codebook()
    with torch.inference_mode(False):  # tables that were made in it could not be written outside it
        tables = _kept(before.keys, before.packed, before.value_of, entries, values)
        after = filled(*tables, history, session.config)
    alone(lambda: session.renumber(history, after))
    return Compacted(
        history.operations[-1].dropped,
        before.entries - after.entries,
        len(before.values) - len(after.values),
        before.nbytes - after.nbytes,
    )


def compact_folder(path: str | os.PathLike[str], above: float = 0.0) -> Compacted:
    """Compact a saved codebook, without its model: the folder holds the old state or the new one.

    Args:
        path: the folder.
        above: see :func:`compact`.

    Raises:
        ConfigError: for what is no share.
        StoreError: when the folder cannot be read or written, or its tables do not fit its history.
        MismatchError: when a newer version made it.
    """
    _check_share(above)
    with lock_folder(Path(path), create=False):
        saved = Saved.read(path)
        history, entries, values = saved.history.compacted()
        stored = sum(len(record.entries) for record in saved.history.stored())
        if history is saved.history or not _passes(stored, len(entries), above):
            return Compacted()
        tensors = dict(saved.folder.tensors)
        try:
            packed = saved.values(tensors)
            tables = _kept(tensors["keys"], packed, tensors["value_of"], entries, values)
        except (KeyError, IndexError, RuntimeError) as error:
            raise StoreError(
                f"{path}: codebook.safetensors does not fit edits.jsonl ({error}): restore the folder from a copy."
            ) from error
        before = _bytes(tensors["keys"], packed, tensors["value_of"])
        gone = len(tensors["keys"]) - len(entries), len(packed) - len(values)
        tensors["keys"], tensors["values"], tensors["value_of"] = tables[0], tables[1].numbers, tables[2]
        if packed.scales.shape[1]:
            tensors["value_scales"] = tables[1].scales
        saved.write(history, tensors)
    return Compacted(history.operations[-1].dropped, *gone, before - _bytes(*tables))


def _check_share(above: float) -> None:
    if isinstance(above, bool) or not isinstance(above, int | float) or not 0 <= above < 1:
        raise ConfigError(f"above={above!r} is not valid: give a share of the entries, from 0 to below 1.")


def _passes(stored: int, awake: int, above: float) -> bool:
    """Whether the share of the entries that are asleep exceeds one that is stated."""
    return stored - awake > above * stored


def _kept(
    keys: Tensor, values: Packed, value_of: Tensor, entries: Sequence[int], numbers: Sequence[int]
) -> tuple[Tensor, Packed, Tensor]:
    """Return copies of some entries and of some values, with the numbers that the values have among these.

    Args:
        keys: [n, d_k] of all entries.
        values: all m of them.
        value_of: [n] int64 below m.
        entries: which of them, rising.
        numbers: of the values that those name, rising.

    Raises:
        IndexError: when one of them is not there.
        RuntimeError: when an entry names another value.
    """
    named, left = value_of[list(entries)], torch.tensor(list(numbers), dtype=torch.int64, device=value_of.device)
    places = torch.searchsorted(left, named)
    if not torch.equal(left[places], named):
        raise RuntimeError("entries name values that are no edit's")
    return keys[list(entries)], values[numbers], places


def _bytes(keys: Tensor, values: Packed, value_of: Tensor) -> int:
    return keys.nbytes + values.nbytes + value_of.nbytes
