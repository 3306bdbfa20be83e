"""Making one codebook of several that were trained apart."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from horen.config.settings import check_same
from horen.editing.conflicts import Clash, Relation, Settled, relation, settle
from horen.edits import Edit, EditRecord
from horen.errors import ConfigError, ConflictError
from horen.store import write_folder
from horen.store.history import History
from horen.store.operations import now
from horen.store.state import Saved

if TYPE_CHECKING:
    from horen.config import HorenConfig
    from horen.edits import OnConflict


@dataclass(frozen=True)
class Parts:
    """The active edits of several codebooks, one after another.

    Attributes:
        paths: the folders.
        edits: as they are stored.
        folders: for each of the edits the folder that it is from.
    """

    paths: list[Path]
    edits: list[EditRecord]
    folders: list[Path]

    @classmethod
    def read(cls, paths: Sequence[str | os.PathLike[str]], config: HorenConfig | None = None) -> Parts:
        """Read folders written by :meth:`horen.Editor.save`.

        Args:
            paths: at least one.
            config: the settings that all must have been made with; None for those of the first.

        Raises:
            ConfigError: when no folder is given.
            StoreError: when one is missing, truncated or altered.
            MismatchError: when one was made with other settings.
        """
        if not paths:
            raise ConfigError("There is nothing to merge: give the folder of at least one codebook.")
        parts = cls([Path(path) for path in paths], [], [])
        for path in parts.paths:
            saved = Saved.read(path)
            config = config or saved.config
            check_same(path, saved.config.of_edits(), config.of_edits())
            active = saved.history.active()
            parts.edits.extend(active)
            parts.folders.extend([path] * len(active))
        return parts

    def place(self, number: int) -> str:
        """Name in words the edit of a number, from 0."""
        return f"edit {self.edits[number].id} of {self.folders[number]}"

    def origin(self, number: int) -> dict[str, Any]:
        """Return where the edit of a number, from 0, is from: fields of JSON."""
        return {"part": str(self.folders[number]), "part_id": self.edits[number].id}

    def told(self, clash: Clash) -> str:
        """Say in words what two edits disagree about."""
        one, two = self.edits[clash.earlier], self.edits[clash.later]
        places = f"{self.place(clash.earlier)} and {self.place(clash.later)}"
        if relation(one, two) is not Relation.contradicts:
            return f"{places} are the same but for their rephrases: {one.prompt!r}"
        return f"{places}: {clash.wording!r} shall be {one.target!r} and {two.target!r}"

    def settle(self, on_conflict: OnConflict) -> Settled:
        """Return which edits stay: what an earlier part holds word for word is dropped, contradictions are settled."""
        return settle(self.edits, on_conflict, repeats=True)


def parts_to_write(paths: Sequence[str | os.PathLike[str]], config: HorenConfig, on_conflict: OnConflict) -> list[Edit]:
    """Return the edits to write for :meth:`horen.Editor.merge`.

    Raises:
        ConfigError: when no folder is given.
        StoreError: when one is missing, truncated or altered.
        MismatchError: when one was made with other settings.
        ConflictError: when parts contradict each other and ``on_conflict`` is "error".
    """
    parts = Parts.read(paths, config)
    found = parts.settle(on_conflict)
    if found.clashes:
        raise ConflictError(
            f"The codebooks disagree: {parts.told(found.clashes[0])}. Pass on_conflict='supersede' to take the later "
            "edit, or 'keep' for the earlier one."
        )
    return [Edit(edit.prompt, edit.target, edit.rephrases) for edit in (parts.edits[i] for i in found.kept)]


def begin(saved: Saved, path: Path) -> None:
    """Write a codebook without edits, of the same settings, model and key space as a saved one.

    Raises:
        StoreError: when the folder cannot be written.
    """
    empty = emptied(saved).folder
    config = empty.config | {"saved": now(), "edits": 0}
    write_folder(path, config=config, records=empty.records, tensors=empty.tensors)


def emptied(saved: Saved) -> Saved:
    """Return a saved codebook as it was before its first edit: the same settings, model and key space."""
    tables = {"keys", "values", "value_scales", "value_of"}
    tensors = {name: tensor[:0] if name in tables else tensor for name, tensor in saved.folder.tensors.items()}
    folder = dataclasses.replace(saved.folder, records=[], tensors=tensors)
    return dataclasses.replace(saved, folder=folder, history=History())
