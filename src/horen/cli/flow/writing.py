"""Writing a file of edits into a saved codebook."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from horen.cli.flow.applying import Batches, apply, claimed
from horen.cli.flow.checking import check_encodable, read_file, sort_by_history
from horen.cli.flow.crew import Crew, work_place
from horen.cli.flow.likeness import replaced_by, resemblances
from horen.cli.flow.opening import model_of, new_editor, open_editor
from horen.cli.flow.outcomes import Outcome
from horen.cli.flow.processes import Processes
from horen.cli.flow.ray_workers import RayWorkers, check_address
from horen.cli.flow.receipts import receipts
from horen.cli.options import OnConflict, OnSimilar, Place, Preset
from horen.cli.terminal import status
from horen.config import STORAGE_SETTINGS, HorenConfig
from horen.editfiles.records import FileRecord
from horen.errors import ConfigError, DataError, ModelError
from horen.model.zoo.embedded import EMBEDDED, full_encoder_name, full_name

if TYPE_CHECKING:
    from horen.cli.flow.trainer import Loading
    from horen.editor import Editor
    from horen.store.calibration import Calibration
    from horen.store.state import Saved


@dataclass(frozen=True)
class Order:
    """What the user asked for.

    Attributes:
        file: the file of edits.
        into: the codebook, old or new.
        model: its model; None for that of an old codebook.
        preset: name of the settings to start from; None if not given.
        settings: changes to them, as in the configuration.
        calibration: folder or name of how the model is read and gated, or None.
        encoder: the text encoder, where the user names it by its own option.
        on_conflict: what to do with contradictions in the file and with stored edits.
        on_similar: what to do with lines that look like stored edits in other words.
        skip_bad: whether lines that cannot be used are left out.
        batch: edits in one operation.
        dtype: of the weights.
        devices: where to run the model, each worker on one of them; none for the default.
        workers: how many train; None for one a device.
        ray: the address of Ray, whose workers train; None for processes of this machine.
    """

    file: Path
    into: Place
    model: str | None
    preset: Preset | None
    settings: dict[str, Any]
    calibration: str | None
    encoder: str | None
    on_conflict: OnConflict
    on_similar: OnSimilar
    skip_bad: bool
    batch: int
    dtype: str
    devices: tuple[str, ...]
    workers: int | None
    ray: str | None

    @property
    def folder(self) -> Path:
        """The codebook's, where it is no store."""
        return Path(self.into.text)

    @property
    def device(self) -> str | None:
        """Where this process runs the model."""
        return next(iter(self.devices), None)

    @property
    def crew(self) -> Crew | None:
        """Those who train; None where this process does."""
        place = work_place(self.folder, self.file)
        named = self.named_for(self.config)
        if self.ray is not None:
            model = None if self.model is None else full_name(self.model)
            encoder = None if named is None else full_encoder_name(named)
            loading: Loading = {"model": model, "encoder": encoder, "dtype": self.dtype, "device": self.device}
            return Crew(place, RayWorkers(self.ray, self.workers, self.batch, loading))
        count = self.workers or max(len(self.devices), 1)
        if count == 1 and not place.path.exists():
            return None
        options = ["--batch", str(self.batch), "--dtype", self.dtype]
        if self.model is not None:
            options += ["--model", self.model]
        if named is not None:
            options += ["--encoder", named]
        return Crew(place, Processes(count, self.devices, options))

    def check_ray(self) -> None:
        """Raise what keeps workers of Ray from training, as far as that shows before the file is read.

        Raises:
            ConfigError: when Ray cannot be reached, or a device is named that is not for Ray to choose.
            MissingExtraError: when it is not installed.
        """
        if self.ray is None:
            return
        if len(self.devices) > 1 or (self.device or "").startswith("cuda:"):
            raise ConfigError(
                f"--device {','.join(self.devices)} names devices, and where a worker runs is Ray's to choose: give "
                "--device cuda for one accelerator each."
            )
        check_address(self.ray)

    @property
    def config(self) -> HorenConfig:
        """The settings asked for."""
        preset = HorenConfig.from_preset(self.preset or "default")
        calibrated = self.calibrated
        before = preset if calibrated is None else calibrated.applied(preset)
        named = {} if self.encoder is None else {"encoder": self.encoder}
        config = HorenConfig.from_dict(before.to_dict() | self.settings | named)
        return config.replace(encoder=full_encoder_name(config.encoder))

    @property
    def named(self) -> str | None:
        """The text encoder that the user names in either way."""
        given = self.encoder or self.settings.get("encoder")
        return None if given is None else str(given)

    def named_for(self, config: HorenConfig) -> str | None:
        """Return the same for a codebook of some settings, which need not read one just because a setting names it."""
        return self.named if self.encoder is not None or config.reads_text else None

    @cached_property
    def calibrated(self) -> Calibration | None:
        """The calibration asked for, with the gate's settings changed as the user said.

        Raises:
            StoreError: when it cannot be read.
            ConfigError: when a setting is changed that its key space was fitted with.
        """
        if self.calibration is None:
            return None
        from horen.store.calibration import Calibration  # noqa: PLC0415

        changes = {name: value for name, value in self.settings.items() if name != "encoder"}
        return Calibration.load(self.calibration, encoder=self.named).changed(changes)


def write_file(order: Order) -> Outcome:
    """Check a file of edits and write it into a codebook, going on where an earlier run of it stopped.

    Raises:
        HorenError: when something is wrong; batches that were done before are saved.
    """
    started = time.monotonic()
    order.check_ray()
    records, skipped = read_file(order.file, order.on_conflict, skip_bad=order.skip_bad)
    with claimed(order.folder) as saved:
        outcome = _into_new(order, records) if saved is None else _into_old(order, records, saved)
    outcome.skipped.extend(skipped)
    outcome.in_order()
    outcome.seconds = time.monotonic() - started
    return outcome


def _into_new(order: Order, records: Sequence[FileRecord]) -> Outcome:
    editor = begun(order)
    return _write(order, records, editor, Outcome(order.model or "", receipts(), []))


def begun(order: Order) -> Editor:
    """Load the model for a new codebook.

    Raises:
        ModelError: when none is named, or it cannot be loaded.
        ConfigError: when a text encoder is named and none is read.
    """
    if order.model is None:
        raise ModelError(
            f"{order.into} is a new codebook: say with --model which model it is for, an embedded one "
            f"({', '.join(EMBEDDED)}), a folder, a GGUF file or a hub id."
        )
    if order.encoder is not None and not order.config.reads_text:
        raise ConfigError("A new codebook of these settings reads no text encoder: leave --encoder out.")
    return new_editor(order.model, order.config, order.dtype, order.device, calibration=order.calibrated)


def _into_old(order: Order, records: Sequence[FileRecord], saved: Saved) -> Outcome:
    name = model_of(saved, order.model)
    named = checked_settings(order, saved)
    found = sort_by_history(records, saved.history, order.on_conflict)
    outcome = Outcome(name, found.settled, [], stored=len(saved.history))
    if not found.pending:
        if order.crew is not None:
            order.crew.clear()
        return outcome
    editor = open_editor(order.folder, order.model, order.dtype, order.device, saved=saved, encoder=named)
    return _write(order, found.pending, editor, outcome, saved)


def checked_settings(order: Order, saved: Saved) -> str | None:
    """Return the text encoder that the user names for a codebook that is there; None for none.

    Raises:
        ConfigError: when other settings are asked for than it has.
    """
    # The same command must do for a second run, so settings may be given again, but not changed.
    given = order.preset is not None or bool(order.settings) or order.calibration is not None
    # Where an encoder is by now may change: that it is the same one shows when it is loaded.
    named = order.named_for(saved.config)
    before = saved.config if named is None else saved.with_encoder(named).config
    # In what a codebook is stored a preset decides for new ones alone: it may be another by now.
    stored = {name: getattr(before, name) for name in STORAGE_SETTINGS if name not in order.settings}
    wanted = order.config.replace(**stored)
    if given and wanted != before:
        changed = [k for k, v in wanted.to_dict().items() if v != before.to_dict()[k]]
        raise ConfigError(
            f"{order.into} was made with other settings ({', '.join(changed)}), and those of a codebook cannot "
            "change: leave --preset, --set and --calibration out, or choose another place."
        )
    return named


def _write(
    order: Order, records: Sequence[FileRecord], editor: Editor, outcome: Outcome, saved: Saved | None = None
) -> Outcome:
    with status("Checking the edits …"):
        pending, skipped = check_encodable(order.file, records, editor, skip_bad=order.skip_bad)
    outcome.skipped.extend(skipped)
    if not pending and not outcome.receipts:
        raise DataError(f"{order.file} holds no edits that {outcome.model} can take: nothing was applied.")
    alike = {}
    if order.on_similar is not OnSimilar.ignore:
        alike = resemblances(order.file, pending, {receipt.id for _, receipt in outcome.receipts}, editor)
    replaced = replaced_by(order.on_similar, alike)
    batches = Batches(order.folder, order.on_conflict, order.batch, alike=alike, replaced=replaced)
    crew = order.crew
    if crew is None:
        return apply(batches, pending, editor, outcome)
    try:
        crew.train(pending, editor, saved)
    except KeyboardInterrupt:
        outcome.interrupted, outcome.remaining = True, len(pending)
        outcome.trained = sum(crew.trained(pending))
        return outcome
    apply(replace(batches, doing="Merging"), pending, editor, outcome)
    if not outcome.interrupted:
        crew.clear()
    return outcome
