"""Writing edits into a codebook in batches, so that an interruption loses little, and keeping others out meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from horen.cli.flow.checking import as_edit, sort_by_history
from horen.cli.flow.likeness import Resemblance
from horen.cli.flow.outcomes import Outcome
from horen.cli.flow.receipts import receipts
from horen.cli.options import OnConflict
from horen.cli.terminal import edit_bar, status
from horen.editfiles.records import FileRecord
from horen.errors import EditNotFoundError

if TYPE_CHECKING:
    from horen.editor import Editor
    from horen.store.state import Saved

# A save flushes files to disk, so it must neither come too often nor take a large share of the time.
_SECONDS_BETWEEN_SAVES = 10.0
_SAVE_SHARE = 10.0


@dataclass(frozen=True)
class Batches:
    """How edits are written.

    Attributes:
        folder: the codebook.
        on_conflict: what to do about stored edits that disagree.
        size: edits in one operation.
        doing: what the bar of progress says.
        alike: by line the stored edits in other words that were found.
        replaced: by line those of them that are to be replaced.
    """

    folder: Path
    on_conflict: OnConflict
    size: int
    doing: str = "Editing"
    alike: Mapping[int, Resemblance] = field(default_factory=dict)
    replaced: Mapping[int, int] = field(default_factory=dict)


def apply(batches: Batches, pending: Sequence[FileRecord], editor: Editor, outcome: Outcome) -> Outcome:
    """Write edits, saving now and then; what was done before an error or Ctrl-C is saved and in the outcome.

    Args:
        batches: how.
        pending: what to write.
        editor: the codebook's.
        outcome: what is known before, to be completed.
    """
    from horen.store.state import Saved  # noqa: PLC0415

    before = editor.operation_count
    keeper = _Keeper(editor, batches.folder)
    done = receipts()
    try:
        with edit_bar(len(pending), batches.doing) as bar:
            for start in range(0, len(pending), batches.size):
                batch = list(pending[start : start + batches.size])
                told = editor.edit(
                    [as_edit(record) for record in batch],
                    batches.on_conflict.value,
                    on_similar=_still_there([batches.replaced.get(record.line) for record in batch], editor),
                    progress=lambda some, _, start=start: bar(start + some),  # type: ignore[misc]
                )
                for record, receipt in zip(batch, told, strict=True):
                    like = batches.alike.get(record.line)
                    done.append((record, replace(receipt, resembles=None if like is None else like.stored.id)))
                bar(start + len(batch))
                keeper.save_when_due()
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        keeper.save_rest()
    if outcome.interrupted and editor.edit_count:
        # The batch that was running is in the folder or is not; what is in it counts as done.
        rest = sort_by_history(pending[len(done) :], Saved.read(batches.folder).history, OnConflict.supersede)
        done.extend(rest.settled)
    outcome.receipts.extend(done)
    outcome.remaining = len(pending) - len(done)
    outcome.operations = editor.operation_count - before
    outcome.stored = editor.edit_count
    return outcome


def _still_there(numbers: Sequence[int | None], editor: Editor) -> list[int | None]:
    """Return ids of stored edits without those that an earlier batch of the file replaced already."""
    return [None if number is None or not _is_there(number, editor) else number for number in numbers]


def _is_there(number: int, editor: Editor) -> bool:
    try:
        editor.get(number)
    except EditNotFoundError:
        return False
    return True


class _Keeper:
    """Saves an editor now and then, and at the end."""

    def __init__(self, editor: Editor, folder: Path) -> None:
        self._editor, self._folder = editor, folder
        self._saved = editor.operation_count
        self._at = time.monotonic()
        self._cost = 0.0

    def save_when_due(self) -> None:
        if time.monotonic() - self._at >= max(_SECONDS_BETWEEN_SAVES, _SAVE_SHARE * self._cost):
            self._save()

    def save_rest(self) -> None:
        """Save what is not saved yet; a second Ctrl-C waits until that is done."""
        if self._editor.operation_count != self._saved:
            with uninterrupted(), status("Saving …"):
                self._save()

    def _save(self) -> None:
        count, start = self._editor.operation_count, time.monotonic()
        self._editor.save(self._folder)
        self._saved, self._at = count, time.monotonic()
        self._cost = self._at - start


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C do nothing within the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def claimed(folder: Path) -> Iterator[Saved | None]:
    """Keep other writers out of a folder, and give what it holds: None when it is new.

    A new folder in which nothing was saved in the end goes again.
    """
    from horen.store import lock_folder  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    existed = folder.exists()
    fresh = _is_fresh(folder)
    if not fresh:
        Saved.read(folder)  # what is no codebook is refused before a lock is put into it
    try:
        with lock_folder(folder):
            yield None if fresh and _is_fresh(folder) else Saved.read(folder)
    finally:
        if not existed and _is_fresh(folder):
            for name in _leftovers():
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()


def _is_fresh(folder: Path) -> bool:
    """Return whether a folder is missing, empty, or holds nothing but what an interrupted first write leaves."""
    try:
        return not folder.exists() or {place.name for place in folder.iterdir()} <= set(_leftovers())
    except OSError:
        return False


def _leftovers() -> Sequence[str]:
    from horen.store.content import CONFIG, EDITS, TENSORS  # noqa: PLC0415

    return (".lock", f"{EDITS}.next", f"{TENSORS}.next", f"{CONFIG}.draft")
