"""Writing a file of edits into a saved codebook, in batches, so that an interruption loses little."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from horen.cli.checking import Skipped, as_edit, check_encodable, read_file, sort_by_history
from horen.cli.likeness import replaced_by, resemblances
from horen.cli.opening import model_of, new_editor, open_editor
from horen.cli.options import OnConflict, OnSimilar, Preset
from horen.cli.terminal import edit_bar, status
from horen.config import HorenConfig
from horen.edits import Receipt
from horen.errors import ConfigError, DataError, ModelError
from horen.model.embedded import EMBEDDED, full_encoder_name
from horen.records import FileRecord

if TYPE_CHECKING:
    from horen.calibration.folder import Calibration
    from horen.editor import Editor
    from horen.saving import Saved

# A save flushes files to disk, so it must neither come too often nor take a large share of the time.
_SECONDS_BETWEEN_SAVES = 10.0
_SAVE_SHARE = 10.0


@dataclass(frozen=True)
class Order:
    """What the user asked for.

    Attributes:
        file: the file of edits.
        folder: the codebook, old or new.
        model: its model; None for that of an old codebook.
        preset: name of the settings to start from; None if not given.
        settings: changes to them, as in the configuration.
        calibration: folder or name of how the model is read and gated, or None.
        on_conflict: what to do with contradictions in the file and with stored edits.
        on_similar: what to do with lines that look like stored edits in other words.
        skip_bad: whether lines that cannot be used are left out.
        batch: edits in one operation.
        dtype: of the weights.
        device: where to run the model.
    """

    file: Path
    folder: Path
    model: str | None
    preset: Preset | None
    settings: dict[str, Any]
    calibration: str | None
    on_conflict: OnConflict
    on_similar: OnSimilar
    skip_bad: bool
    batch: int
    dtype: str
    device: str | None

    @property
    def config(self) -> HorenConfig:
        """The settings asked for."""
        preset = HorenConfig.from_preset(self.preset or "default")
        calibrated = self.calibrated
        before = preset if calibrated is None else calibrated.applied(preset)
        config = HorenConfig.from_dict(before.to_dict() | self.settings)
        return config.replace(encoder=full_encoder_name(config.encoder))

    @cached_property
    def calibrated(self) -> Calibration | None:
        """The calibration asked for, with the gate's settings changed as the user said.

        Raises:
            StoreError: when it cannot be read.
            ConfigError: when a setting is changed that its key space was fitted with.
        """
        if self.calibration is None:
            return None
        from horen.calibration.folder import Calibration  # noqa: PLC0415

        return Calibration.load(self.calibration).changed(self.settings)


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        model: the model's name.
        receipts: lines that are stored or kept, with their receipts, in the order of the file.
        skipped: lines that were left out.
        remaining: lines that an interruption left undone.
        interrupted: whether there was one.
        operations: number of operations that were added to the history.
        stored: active edits in the codebook afterwards.
        seconds: time it all took.
    """

    model: str
    receipts: list[tuple[FileRecord, Receipt]]
    skipped: list[Skipped]
    remaining: int = 0
    interrupted: bool = False
    operations: int = 0
    stored: int = 0
    seconds: float = 0.0


def write_file(order: Order) -> Outcome:
    """Check a file of edits and write it into a codebook, going on where an earlier run of it stopped.

    Raises:
        HorenError: when something is wrong; batches that were done before are saved.
    """
    started = time.monotonic()
    records, skipped = read_file(order.file, order.on_conflict, skip_bad=order.skip_bad)
    with _claimed(order.folder) as saved:
        outcome = _into_new(order, records) if saved is None else _into_old(order, records, saved)
    outcome.skipped = sorted([*skipped, *outcome.skipped], key=lambda item: item.line)
    outcome.receipts.sort(key=lambda item: item[0].line)
    outcome.seconds = time.monotonic() - started
    return outcome


def _into_new(order: Order, records: list[FileRecord]) -> Outcome:
    if order.model is None:
        raise ModelError(
            f"{order.folder} is a new codebook: say with --model which model it is for, an embedded one "
            f"({', '.join(EMBEDDED)}), a folder or a hub id."
        )
    editor = new_editor(order.model, order.config, order.dtype, order.device, calibration=order.calibrated)
    return _write(order, records, editor, Outcome(order.model, [], []))


def _into_old(order: Order, records: list[FileRecord], saved: Saved) -> Outcome:
    name = model_of(saved, order.model)
    # The same command must do for a second run, so settings may be given again, but not changed.
    if (order.preset is not None or order.settings or order.calibration is not None) and order.config != saved.config:
        changed = [k for k, v in order.config.to_dict().items() if v != saved.config.to_dict()[k]]
        raise ConfigError(
            f"{order.folder} was made with other settings ({', '.join(changed)}), and those of a codebook cannot "
            "change: leave --preset, --set and --calibration out, or choose another folder."
        )
    found = sort_by_history(records, saved.history, order.on_conflict)
    outcome = Outcome(name, found.settled, [], stored=len(saved.history))
    if not found.pending:
        return outcome
    editor = open_editor(order.folder, order.model, order.dtype, order.device, saved=saved)
    return _write(order, found.pending, editor, outcome)


def _write(order: Order, records: list[FileRecord], editor: Editor, outcome: Outcome) -> Outcome:
    from horen.saving import Saved  # noqa: PLC0415

    with status("Checking the edits …"):
        pending, skipped = check_encodable(order.file, records, editor, skip_bad=order.skip_bad)
    outcome.skipped.extend(skipped)
    if not pending and not outcome.receipts:
        raise DataError(f"{order.file} holds no edits that {outcome.model} can take: nothing was applied.")
    alike = {}
    if order.on_similar is not OnSimilar.ignore:
        alike = resemblances(order.file, pending, {receipt.id for _, receipt in outcome.receipts}, editor)
    replaced = replaced_by(order.on_similar, alike)
    before = len(editor.history())
    keeper = _Keeper(editor, order.folder)
    done: list[tuple[FileRecord, Receipt]] = []
    try:
        with edit_bar(len(pending)) as bar:
            for start in range(0, len(pending), order.batch):
                batch = pending[start : start + order.batch]
                receipts = editor.edit(
                    [as_edit(record) for record in batch],
                    order.on_conflict.value,
                    on_similar=_still_there([replaced.get(record.line) for record in batch], editor),
                    progress=lambda some, _, start=start: bar(start + some),  # type: ignore[misc]
                )
                for record, receipt in zip(batch, receipts, strict=True):
                    like = alike.get(record.line)
                    done.append((record, replace(receipt, resembles=None if like is None else like.stored.id)))
                bar(start + len(batch))
                keeper.save_when_due()
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        keeper.save_rest()
    if outcome.interrupted and editor.edits():
        # The batch that was running is in the folder or is not; what is in it counts as done.
        rest = sort_by_history(pending[len(done) :], Saved.read(order.folder).history, OnConflict.supersede)
        done.extend(rest.settled)
    outcome.receipts.extend(done)
    outcome.remaining = len(pending) - len(done)
    outcome.operations = len(editor.history()) - before
    outcome.stored = len(editor.edits())
    return outcome


def _still_there(numbers: Sequence[int | None], editor: Editor) -> list[int | None]:
    """Ids of stored edits without those that an earlier batch of the file replaced already."""
    active = {record.id for record in editor.edits()} if any(numbers) else set()
    return [number if number in active else None for number in numbers]


class _Keeper:
    """Saves an editor now and then, and at the end."""

    def __init__(self, editor: Editor, folder: Path) -> None:
        self._editor, self._folder = editor, folder
        self._saved = len(editor.history())
        self._at = time.monotonic()
        self._cost = 0.0

    def save_when_due(self) -> None:
        if time.monotonic() - self._at >= max(_SECONDS_BETWEEN_SAVES, _SAVE_SHARE * self._cost):
            self._save()

    def save_rest(self) -> None:
        """Save what is not saved yet; a second Ctrl-C waits until that is done."""
        if len(self._editor.history()) != self._saved:
            with _uninterrupted(), status("Saving …"):
                self._save()

    def _save(self) -> None:
        count, start = len(self._editor.history()), time.monotonic()
        self._editor.save(self._folder)
        self._saved, self._at = count, time.monotonic()
        self._cost = self._at - start


@contextmanager
def _uninterrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _claimed(folder: Path) -> Iterator[Saved | None]:
    """Keep other writers out of a folder, and give what it holds: None when it is new.

    A new folder in which nothing was saved in the end goes again.
    """
    from horen.saving import Saved  # noqa: PLC0415
    from horen.store import lock_folder  # noqa: PLC0415

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
    """Whether a folder is missing, empty, or holds nothing but what an interrupted first write leaves."""
    try:
        return not folder.exists() or {place.name for place in folder.iterdir()} <= set(_leftovers())
    except OSError:
        return False


def _leftovers() -> Sequence[str]:
    from horen.store.content import CONFIG, EDITS, TENSORS  # noqa: PLC0415

    return (".lock", f"{EDITS}.next", f"{TENSORS}.next", f"{CONFIG}.draft")
