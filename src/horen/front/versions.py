"""Views of a codebook: what it was after so many operations, or with some of its edits alone."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from horen.errors import ConfigError
from horen.front.wish import ALL, Among
from horen.memory import Codebook
from horen.store.history import History
from horen.store.index import give_index
from horen.store.state import CodebookState

# So many of those that were asked for are kept.
_KEPT = 4


class Versions:
    """Views of one codebook, made of its tables, to which rows are only ever added: none of them is copied.

    Args:
        folder: of the codebook, for messages.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[tuple[int, Among], tuple[History, Codebook]] = OrderedDict()

    def forget(self) -> None:
        """Keep none any more: the tables have changed."""
        self._kept.clear()

    def at(self, state: CodebookState, version: int, among: Among = ALL) -> tuple[History, Codebook]:
        """Return a version's history, and a codebook in which the entries of other edits are asleep.

        Args:
            state: whose tables they are.
            version: how many operations there had been.
            among: the edits that may answer.

        Raises:
            ConfigError: when there is no such version, or a compaction has dropped its entries.
        """
        wanted = version, among
        if wanted not in self._kept:
            history = self._history(state, version)
            codebook = replace(state, history=history).codebook()
            others = (record for record in history.active() if not among.has(record.id))
            codebook.set_awake((entry for record in others for entry in record.entries), awake=False)
            give_index(codebook, state.config)
            self._kept[wanted] = history, codebook
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(wanted)
        return self._kept[wanted]

    def _history(self, state: CodebookState, version: int) -> History:
        operations = state.history.operations
        if version > len(operations):
            raise ConfigError(
                f"There is no version {version} of {self._folder}, which has had {len(operations)} operations: ask "
                "for one of those."
            )
        if any(operation.dropped for operation in operations[version:]):
            raise ConfigError(
                f"Version {version} of {self._folder} is gone, because a compaction has dropped its entries: "
                "ask for a later one."
            )
        return state.history if version == len(operations) else History.from_operations(operations[:version])


def mark(history: History, version: int) -> str:
    """Return what tells a version from that of another codebook which has had as many operations.

    It is the same for all that are not there.
    """
    return f"{version} {history.made_at(version)}" if 0 < version <= history.count else "0" if version == 0 else ""
