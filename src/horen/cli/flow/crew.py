"""Training a file's edits by a crew, into codebooks of its own that lie beside the one to be made.

Those are no more than a store of keys and values: what becomes of them is decided when the file is written into the
codebook with what they hold, in the order of the file. So a second run may share out what is left in another way, and
who trains decides nothing: several processes (:mod:`horen.cli.flow.processes`) or workers of Ray
(:mod:`horen.cli.flow.ray_workers`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from horen.cli.flow.applying import uninterrupted
from horen.cli.terminal import status
from horen.editfiles.records import EditLike, FileRecord
from horen.editfiles.spool import chosen
from horen.errors import MismatchError

if TYPE_CHECKING:
    from horen.editor import Editor
    from horen.store.state import Saved

_PART = "part-"
#: What is said behind an error that ends the training of some edits.
KEPT = "What was done is kept: the same command continues."


class Staff(Protocol):
    """Those who train."""

    def train(self, edits: Sequence[FileRecord], place: Place, begun: Saved, done: int) -> None:
        """Train edits into parts, showing a bar of all of them.

        Args:
            edits: that no part holds yet.
            place: of the parts.
            begun: a codebook of the settings, the model and the key space that every part is to have.
            done: edits that parts hold already, for the bar.

        Raises:
            EditError: when it cannot be done; the parts hold what was done before.
            KeyboardInterrupt: after Ctrl-C; likewise.
        """


@dataclass(frozen=True)
class Place:
    """A folder of parts, which are codebooks.

    Attributes:
        path: the folder.
    """

    path: Path

    def part(self, number: int) -> Path:
        """Return where the part of a number is, or will be."""
        return self.path / f"{_PART}{number}"

    def parts(self) -> list[Path]:
        """Return those that are begun."""
        return sorted(path for path in self.path.glob(f"{_PART}*") if path.is_dir())

    def next_number(self) -> int:
        """Return a number that no part has."""
        told = (path.name.removeprefix(_PART) for path in self.parts())
        return 1 + max((int(number) for number in told if number.isdecimal()), default=0)


@dataclass(frozen=True)
class Crew:
    """Those who train a file's edits, and what they have done.

    Attributes:
        place: what they have done.
        staff: who they are.
    """

    place: Place
    staff: Staff

    def trained(self, edits: Sequence[FileRecord]) -> list[bool]:
        """Return for each edit whether it is in a part.

        Raises:
            StoreError: when one cannot be read.
        """
        from horen.store.state import Saved  # noqa: PLC0415

        found: set[tuple[str, ...]] = set()
        for part in self.place.parts():
            for operation in Saved.read(part).history.operations:
                found.update(_words(record) for record in operation.added)
        return [_words(edit) in found for edit in edits]

    def train(self, edits: Sequence[FileRecord], editor: Editor, saved: Saved | None) -> None:
        """Train what no part holds yet, and let the editor take everything from the parts.

        Args:
            edits: all that are to be written.
            editor: of the codebook that they are to be written into.
            saved: what is in its folder; None for nothing.

        Raises:
            EditError: when it cannot be done.
            KeyboardInterrupt: after Ctrl-C; the parts hold what was done.
        """
        try:
            editor.take_values(*self.place.parts(), keys=True)
        except MismatchError as error:
            raise MismatchError(
                f"{error} {self.place.path} is what an interrupted run with --workers or --ray has left: give the "
                "command that began it, or delete that folder to train anew."
            ) from error
        rest = chosen(edits, (number for number, done in enumerate(self.trained(edits)) if not done))
        if not rest:
            return
        try:
            with status("Preparing …"):
                begun = self._begun(editor, saved)
            self.staff.train(rest, self.place, begun, len(edits) - len(rest))
        except BaseException:
            if not any(self.trained(edits)):
                self.clear()
            raise
        editor.take_values(*self.place.parts(), keys=True)

    def clear(self) -> None:
        """Delete what they have done."""
        with uninterrupted(), suppress(FileNotFoundError):
            shutil.rmtree(self.place.path)

    def _begun(self, editor: Editor, saved: Saved | None) -> Saved:
        """Return a codebook in the editor's key space, and make sure that there is a folder for parts."""
        from horen.store.state import Saved  # noqa: PLC0415

        self.place.path.mkdir(parents=True, exist_ok=True)
        if saved is None:
            editor.save(self.place.path / "empty")
            saved = Saved.read(self.place.path / "empty")
        return saved


def work_place(folder: Path, file: Path) -> Place:
    """Return where the work of a file for a codebook is kept until it is done: beside the codebook, hidden."""
    folder = folder.resolve()
    return Place(folder.with_name(f".{folder.name}.{file.name}.workers"))


def shared_out(edits: Sequence[FileRecord], count: int) -> list[Sequence[FileRecord]]:
    """Return at most so many runs of edits of as nearly the same length as can be."""
    count = min(count, len(edits))
    ends = [len(edits) * number // count for number in range(count + 1)]
    return [edits[start:end] for start, end in pairwise(ends)]


def _words(edit: EditLike) -> tuple[str, ...]:
    return (edit.prompt, edit.target, *edit.rephrases)
