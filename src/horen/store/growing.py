"""Reading what a folder has more than when it was read last, so that a small change costs little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from horen.store.content import EDITS, TENSORS, parse_records
from horen.store.history import History
from horen.store.operations import no_history, operation_of, whole
from horen.store.reading import Opened, State, settled
from horen.store.tensors import joined, map_tensors


@dataclass(frozen=True)
class More:
    """What a folder has more.

    Attributes:
        config: all that it says of itself by now.
        records: further lines of its history.
        tensors: further rows of its tables, by name.
        digests: of all its files by now, by name.
    """

    config: Mapping[str, Any]
    records: list[dict[str, Any]]
    tensors: dict[str, Tensor]
    digests: Mapping[str, str]

    def record(self, history: History) -> list[int]:
        """Append the further operations to the history that was read before; return the ids of edits that they name.

        Raises:
            StoreError: when they do not go on from it.
        """
        touched: list[int] = []
        try:
            for sequence, parts in groupby(map(operation_of, self.records), key=lambda part: part.sequence):
                if sequence != history.count + 1:
                    raise ValueError(f"operation {history.count + 1} is missing")
                operation = whole(list(parts))
                target = operation if operation.undoes is None else history.operation(operation.undoes)
                history.append(operation)
                touched += [*target.removed, *target.restored, *(record.id for record in target.added)]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            raise no_history(error) from error
        return touched


def digests_of(path: Path) -> dict[str, str]:
    """Return by the name of each of a codebook's files the digest that it should have.

    Raises:
        StoreError: when there is nothing to read, or it is damaged.
    """
    return settled(path, "codebook", lambda _, opened: opened.digests())


def read_more(path: Path, known: Mapping[str, str]) -> More | None:
    """Return what a codebook's folder has more than the files that were read; None where it is not what they go on to.

    Args:
        path: the folder.
        known: digests of the files that were read, by name.

    Raises:
        StoreError: when there is nothing to read, or what is new is damaged.
    """

    def read(_: State, opened: Opened) -> More | None:
        found = opened.digests()
        if any(found.get(name) != digest for name, digest in known.items()):
            return None
        new = {first: [name for name in opened.files[first] if name not in known] for first in (EDITS, TENSORS)}
        content = b"".join(opened.verified_one(name).read() for name in new[EDITS])
        parts = [map_tensors(path, opened.verified_one(name)) for name in new[TENSORS]]
        return More(opened.config, parse_records(path, content), _rows(path, parts), found)

    return settled(path, "codebook", read)


def _rows(path: Path, parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the rows of additions, which need not all have the same tables."""
    names = {name for part in parts for name in part}
    return {name: joined(path, [{name: part[name]} for part in parts if name in part])[name] for name in sorted(names)}
