"""Packing an editor's state into a durable folder, and edits of a folder that need no model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from horen.config import HorenConfig
from horen.edits import EditRecord, Undone
from horen.errors import ConfigError, MismatchError, StoreError
from horen.memory import Codebook, KeySpace, Packed
from horen.store import Begun, Folder, Known, lock_folder, write_folder
from horen.store.content import uncollected
from horen.store.history import History
from horen.store.operations import now
from horen.store.reading import settled
from horen.store.tables import Sizes, filled

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from horen.model.zoo.loading import ModelOptions

#: Tables of a codebook to which rows are only ever added.
GROWS = ("keys", "values", "value_scales", "value_of")


@dataclass(frozen=True)
class CodebookState:
    """All that a codebook is beside its model: an editor has it, a folder holds it, and new keys are made of it.

    Attributes:
        config: the settings.
        source: where the model came from; None when that is not known.
        revision: the commit of the model; None when that is not known.
        made_for: fingerprint of the model when the codebook began.
        encoder: fingerprint of the text encoder; None where activations make keys.
        history: every operation.
        keys: [n, d_k] as they are stored; None where they are lost.
        values: as they are stored.
        value_of: [n] int64, the value's number of each entry.
        space: the key space.
        token_weights: [V] float32; None where all tokens count alike.
    """

    config: HorenConfig
    source: str | None
    revision: str | None
    made_for: dict[str, Any]
    encoder: dict[str, Any] | None
    history: History
    keys: Tensor | None
    values: Packed
    value_of: Tensor
    space: KeySpace
    token_weights: Tensor | None

    def codebook(self) -> Codebook:
        """Return a codebook of these tables, in which the entries of active edits are awake.

        Raises:
            KeyError: when the keys are lost.
            IndexError: when the history names an entry that is not there.
            RuntimeError: when the tables do not fit each other.
        """
        if self.keys is None:
            raise KeyError("keys")
        return filled(self.keys, self.values, self.value_of, self.history, self.config)


@dataclass(frozen=True)
class Saved:
    """A saved codebook as it was read, still without its model."""

    path: Path
    folder: Folder
    config: HorenConfig
    source: str | None
    history: History

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Saved:
        """Read and check a folder.

        Raises:
            StoreError: when it is missing, truncated, altered or no codebook.
            MismatchError: when a newer version made it.
        """
        with uncollected():
            return cls._read(Path(path))

    @classmethod
    def _read(cls, path: Path) -> Saved:
        folder, history = settled(path, "codebook", partial(Folder.read, used=History.from_lines))
        try:
            settings, source = folder.config["settings"], folder.config["model"]["source"]
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path} records no settings or model: restore the folder from a copy.") from error
        config = HorenConfig.from_saved(settings)
        return cls(path, folder, config, source, history)

    @property
    def revision(self) -> str | None:
        """The commit of the model, where it came from the hub and that is known."""
        found: str | None = self.folder.config["model"].get("revision")
        return found

    def model_options(self, given: ModelOptions | None = None) -> ModelOptions | None:
        """Return what the loading of the model is told.

        It is what is given, and the revision that the codebook was made for.
        """
        return given if self.revision is None else {"revision": self.revision, **(given or {})}

    def with_encoder(self, encoder: str | os.PathLike[str] | None) -> Saved:
        """Return the same with the text encoder that the caller names, wherever the one that made the keys is by now.

        Raises:
            ModelError: when the folder names another than the package's own, and the caller none.
            ConfigError: when no text encoder is read, and the caller names one.
        """
        if not self.config.reads_text:
            if encoder is None:
                return self
            raise ConfigError(f"{self.path} reads no text encoder, but {encoder} was named as one: leave encoder out.")
        from horen.model.zoo.embedded import named_encoder  # noqa: PLC0415

        return replace(self, config=self.config.replace(encoder=named_encoder(self.path, self.config.encoder, encoder)))

    def check_model(self, model: PreTrainedModel) -> None:
        """Raise MismatchError when a model is another one than the codebook was made for.

        Raises:
            StoreError: when the folder does not say what it was made for.
        """
        # Only what has a model at hand imports transformers: the changes below that need none stay quick.
        from horen.model.fingerprint import fingerprint  # noqa: PLC0415

        self.check_made_for(fingerprint(model))

    def check_made_for(self, found: dict[str, Any]) -> None:
        """Raise what :meth:`check_model` raises, told by a model's fingerprint."""
        from horen.model.fingerprint import difference  # noqa: PLC0415

        try:
            differs = difference(self.folder.config["model"]["fingerprint"], found)
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path} records no fingerprint of its model: restore the folder from a copy."
            ) from error
        if differs:
            raise MismatchError(
                f"{self.path} was made for another model ({self.source or 'of unknown source'}; {differs}): load it "
                "with that model, or write its edits anew for this one."
            )

    def check_encoder(self, encoder: str, found: dict[str, Any] | None) -> None:
        """Raise MismatchError when a text encoder is another one than the keys were made by.

        Args:
            encoder: its name.
            found: its fingerprint; None where activations are read, which fits every folder here.

        Raises:
            StoreError: when the folder does not say what they were made by.
        """
        if found is None:
            return
        from horen.model.fingerprint import difference  # noqa: PLC0415

        try:
            name = self.folder.config["encoder"]["name"]
            differs = difference(self.folder.config["encoder"]["fingerprint"], found)
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path} records no fingerprint of its text encoder: restore the folder from a copy."
            ) from error
        if differs:
            raise MismatchError(
                f"The keys of {self.path} were made by another text encoder than {encoder} is now "
                f"({name}; {differs}): put that one back, or make the keys anew with horen rekey."
            )

    def state(self) -> CodebookState:
        """Return what the folder holds; the keys may be lost.

        Raises:
            StoreError: when it lacks something else.
        """
        try:
            return self._state(self.folder.tensors)
        except (KeyError, TypeError) as error:
            raise StoreError(f"{self.path} lacks {error}: restore the folder from a copy.") from error

    def whole(self, device: torch.device, sizes: Sizes) -> tuple[CodebookState, Codebook]:
        """Return what the folder holds, on a device, and the codebook of it.

        Args:
            device: where its tables shall be.
            sizes: of the model that they are for.

        Raises:
            StoreError: when the tensors do not fit the history or the model.
        """
        tensors = {name: tensor.to(device) for name, tensor in self.folder.tensors.items()}
        try:
            state = self._state(tensors)
            codebook = state.codebook()
            self._check_sizes(sizes, state.space, codebook, state.token_weights)
        except (KeyError, IndexError, TypeError, OverflowError, RuntimeError) as error:
            raise StoreError(
                f"{self.path}: codebook.safetensors does not fit edits.jsonl ({error}): restore the folder from a copy."
            ) from error
        return state, codebook

    def _state(self, tensors: Mapping[str, Tensor]) -> CodebookState:
        """Return the state with the folder's tables, wherever they were moved to.

        Raises:
            KeyError: when something is missing.
        """
        return CodebookState(
            config=self.config,
            source=self.source,
            revision=self.revision,
            made_for=self.folder.config["model"]["fingerprint"],
            encoder=self.folder.config["encoder"]["fingerprint"] if self.config.reads_text else None,
            history=self.history,
            keys=self.keys(tensors) if "keys" in tensors else None,
            values=self.values(tensors),
            value_of=tensors["value_of"],
            space=self.key_space(tensors),
            token_weights=tensors.get("token_weights"),
        )

    def key_space(self, tensors: Mapping[str, Tensor]) -> KeySpace:
        """Return the saved key space.

        Raises:
            KeyError: when it is not among these tensors, those of the folder wherever they were moved to.
        """
        power = self.config.feature_power if self.config.whitens else 1.0
        return KeySpace(tensors["key_space.mean"], tensors.get("key_space.map"), power)

    def keys(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the saved keys, [n, d_k] as they are stored; see :meth:`values`."""
        keys, storage = tensors["keys"], self.config.of_keys()
        if keys.dtype != storage.dtype:
            raise StoreError(f"{self.path}: the keys are not stored as {storage.name}: restore the folder from a copy.")
        return keys

    def values(self, tensors: Mapping[str, Tensor]) -> Packed:
        """Return the saved values.

        Args:
            tensors: those of a folder, wherever they were moved to.

        Raises:
            KeyError: when they are not among them.
            StoreError: when they are of another storage than the settings say.
        """
        values, storage = Packed.of(tensors["values"], tensors.get("value_scales")), self.config.storage()
        if not storage.fits(values):
            raise StoreError(
                f"{self.path}: the values are not stored as {storage.name}: restore the folder from a copy."
            )
        return values

    def _check_sizes(self, sizes: Sizes, space: KeySpace, codebook: Codebook, weights: Tensor | None) -> None:
        entry, value = self.history.last_entry_and_value()
        fits = {
            "the history names entries that are not there": entry < codebook.entries,
            "the history names values that are not there": value < len(codebook.values),
            "keys are not as long as the key space says": codebook.keys.shape[1] == space.dimension,
            "values are not of the size of the model's": codebook.values.shape[1] == sizes.value,
            "features are not of the size of the model's": len(space.mean) == sizes.feature,
            "token weights are not as many as the vocabulary has tokens": (
                weights is None if sizes.tokens is None else weights is not None and len(weights) == sizes.tokens
            ),
        }
        for problem, holds in fits.items():
            if not holds:
                raise RuntimeError(problem)

    def change(self, action: Callable[[History], Any]) -> None:
        """Change the history without loading the model, and write the folder again."""
        known = self.known()
        action(self.history)
        self.write(self.history, self.folder.tensors, known)

    def known(self) -> Known:
        """Return what the folder holds, for whoever goes on with its history and tables and saves them there again."""
        lines = self.history.lines()
        # An earlier release may have said the same in other lines.
        begun = Begun.of(lines, self.folder.tensors) if len(lines) == len(self.folder.records) else None
        return {self.folder.mark: begun}

    def write(self, history: History, tensors: Mapping[str, Tensor], known: Known | None = None) -> None:
        """Write the folder again, with another history and other tables.

        Raises:
            StoreError: when it cannot be written.
        """
        config = {**self.folder.config, "saved": now(), "edits": len(history)}
        write_folder(self.path, config=config, records=history.lines(), tensors=tensors, known=known, grows=GROWS)


def save(state: CodebookState, path: str | os.PathLike[str], known: Known | None = None) -> None:
    """Write a state into a folder, as a whole or not at all; only what is new where it is known what it holds.

    Args:
        state: what to write.
        path: the folder.
        known: marks of what the folder may hold so far, to which its new one is added; None asks for nothing.

    Raises:
        StoreError: when it cannot be written, or holds something else; it is intact.
    """
    space = state.space
    tensors = {"values": state.values.numbers, "value_of": state.value_of, "key_space.mean": space.mean}
    if state.keys is not None:
        tensors["keys"] = state.keys
    if state.values.scales.shape[1]:
        tensors["value_scales"] = state.values.scales
    if space.map is not None:
        tensors["key_space.map"] = space.map
    if state.token_weights is not None:
        tensors["token_weights"] = state.token_weights
    config: dict[str, Any] = {
        "settings": state.config.to_saved(),
        "model": {"source": state.source, "revision": state.revision, "fingerprint": state.made_for},
        "saved": now(),
        "edits": len(state.history),
    }
    if state.encoder is not None:
        config["encoder"] = {"name": state.config.encoder, "fingerprint": state.encoder}
    write_folder(Path(path), config=config, records=state.history.lines(), tensors=tensors, known=known, grows=GROWS)


def remove_from_folder(path: str | os.PathLike[str], numbers: Sequence[int]) -> list[EditRecord]:
    """Remove edits of a saved codebook as one operation, without its model; the records that are gone.

    Raises:
        EditNotFoundError: when one of them is not active; then nothing changes.
        StoreError: when the folder cannot be read or written.
    """
    with lock_folder(Path(path), create=False):
        saved = Saved.read(path)
        wanted = list(dict.fromkeys(numbers))
        records = [saved.history.get(number) for number in wanted]
        saved.change(lambda history: history.record("remove", removed=wanted))
    return records


def undo_in_folder(path: str | os.PathLike[str]) -> Undone:
    """Take back the last operation of a saved codebook, without its model.

    Raises:
        EditError: when there is nothing left to undo.
        StoreError: when the folder cannot be read or written.
    """
    undone: list[Undone] = []
    with lock_folder(Path(path), create=False):
        Saved.read(path).change(lambda history: undone.append(history.undo()[1]))
    return undone[0]
