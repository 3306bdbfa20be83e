"""The editor: the one object that a user holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Never, Self

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.asking.wrapper import Wrapped
from horen.config import ENCODER, HorenConfig
from horen.config.settings import check_same
from horen.editing.compact import compact as compact_session
from horen.editing.known import KnownValues
from horen.editing.merge import emptied, parts_to_write
from horen.editing.plan import check_choice, check_list, listed, plan_replacement
from horen.editing.rekey import renewed, swap
from horen.editing.remove import remove as remove_edits
from horen.editing.remove import undo as undo_last
from horen.editing.similar import find_similar, plan_with_similar
from horen.editing.write import warn, write
from horen.edits import Compacted, Edit, EditRecord, OnConflict, OnSimilar, Progress, Receipt, Similar, Undone
from horen.errors import ConfigError, ModelError
from horen.model.zoo.embedded import full_name
from horen.model.zoo.loading import ModelOptions, load_model, revision_of
from horen.session import Session, check_parts
from horen.store.calibration import Calibration
from horen.store.state import Saved


class Editor(Wrapped):
    """Corrects what a causal language model knows, one fact after another, without touching its weights.

    Wrapping puts hooks on ``model``: its own ``forward`` and ``generate`` apply the edits from then on, until
    :meth:`unwrap`. Threads may share an editor: many ask while one edits (docs/concurrency.md).

    Args:
        model: a decoder-only transformers model with an MLP in its layers.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        calibration: how this model is read and gated: a folder that ``horen calibrate`` wrote, or the name of an
            embedded model, whose calibration comes with the package. Its settings go before those of ``config``.

    Raises:
        ModelError: when the model is wrapped already, has no MLPs, passes no gradients, or a text encoder cannot load.
        ConfigError: when the settings name a layer or site that the model does not have.
        StoreError: when the calibration cannot be read.
        MismatchError: when it was made for another model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: HorenConfig | None = None,
        *,
        calibration: Calibration | str | os.PathLike[str] | None = None,
    ) -> None:
        check_parts(model, tokenizer, config)
        if calibration is not None and not isinstance(calibration, Calibration):
            named = (config or HorenConfig()).encoder
            calibration = Calibration.load(calibration, encoder=None if named == ENCODER else named)
        super().__init__(Session(model, tokenizer, config or HorenConfig(), calibration))
        self._known: KnownValues | None = None
        self._session.wrap()

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        config: HorenConfig | None = None,
        *,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        dtype: torch.dtype | str = "auto",
        device: str | torch.device | None = None,
        progress: bool = False,
        model_options: ModelOptions | None = None,
        **others: Never,
    ) -> Self:
        """Load a model and wrap it; :func:`horen.api.open_editor` opens other editors too.

        Args:
            name: an embedded name, a folder, a GGUF file (converted on first use), or a hub id.
            config: the settings; None for the default preset.
            calibration: see :class:`Editor`.
            dtype: of the weights; "auto" keeps the saved one, and takes bfloat16 for those of a GGUF file.
            device: where to put the model; None for the CPU.
            progress: show the fetching of an embedded model, or the conversion of a file, on standard error.
            model_options: what else transformers is told: :class:`horen.model.zoo.loading.ModelOptions`.
            others: nothing.

        Raises:
            ModelError: when the model cannot be loaded or wrapped.
            ConfigError: for an unknown option, or a calibration that is not the model's.
        """
        if "method" in others:
            raise ConfigError("Editor is HoReN alone: call horen.api.open_editor(name, method=…) for another editor.")
        if others:
            raise TypeError(f"Editor.from_pretrained() got an unexpected keyword argument {next(iter(others))!r}")
        model, tokenizer = load_model(name, dtype=dtype, device=device, progress=progress, options=model_options)
        editor = cls(model, tokenizer, config, calibration=calibration)
        editor._session.source, editor._session.revision = full_name(name), revision_of(name, model_options)
        return editor

    def edit(
        self,
        edits: Sequence[Edit] | Edit,
        on_conflict: OnConflict = "error",
        *,
        on_similar: OnSimilar = "warn",
        progress: Progress | None = None,
    ) -> list[Receipt]:
        """Write a list of edits as one operation: all of them or, on an error or interruption, none.

        Args:
            edits: what to write; one Edit counts as a list of one.
            on_conflict: when a stored edit of the same prompt has another target: "error" refuses the list,
                "supersede" replaces the stored edit, "keep" leaves it and skips the new one.
            on_similar: when an edit looks like a stored one in other words and with another target (:meth:`similar`):
                "warn" writes it beside that and logs a warning, "supersede" replaces the stored edit, "ignore" does not
                look. A list decides for each edit by itself: the id of the stored edit that it replaces, or None.
            progress: called with (edits done, edits to write) as training goes on.

        Returns:
            One receipt an edit, in order. What did not converge is written all the same, and logged as a warning.

        Raises:
            EditError: for a list that repeats or contradicts itself, or an edit that cannot be encoded or trained.
            ConflictError: for a conflict, with ``on_conflict="error"``.
            EditNotFoundError: when a list of ids names an edit that is not active.
        """
        given = listed(edits)
        check_choice(on_conflict)
        check_list(given)
        with self._turn:
            plans = plan_with_similar(self._session, given, on_conflict, on_similar)
            receipts = write(self._session, "edit", plans, progress, known=self._known)
        warn(given, receipts, resembling=on_similar == "warn")
        return receipts

    def similar(self, edits: Sequence[Edit] | Edit) -> list[Similar | None]:
        """Return for each edit the stored one that it seems to correct: the same fact, with another target.

        The gate decides: a wording of the edit must score above the setting ``similar_threshold`` at a wording of the
        stored one, and both must name the same numbers. Edits whose very words are stored give None, because
        ``on_conflict`` decides on them, and so do edits with the stored target. Nothing is changed.

        Raises:
            EditError: for a prompt that cannot be encoded.
        """
        with self._askers.asking():
            return find_similar(self._session, listed(edits))

    def prepare(self) -> None:
        """Measure how the model reads, which the first edit otherwise does: seconds, once for each codebook."""
        with self._turn:
            self._session.codebook()

    def check(self, edit: Edit) -> None:
        """Raise what :meth:`edit` would raise for an edit that this model cannot take, and change nothing.

        Raises:
            EditError: when its prompt or target encodes to nothing, or is longer than the model's context.
        """
        self._session.contexts.wordings(edit)
        self._session.contexts.samples(edit, self.config)

    def supersede(self, number: int, target: str, rephrases: Sequence[str] | None = None) -> Receipt:
        """Replace edit ``number`` by one with the same prompt and another target, as one operation.

        Args:
            number: id of an active edit.
            target: the new answer.
            rephrases: new rephrases; None keeps those of the replaced edit.

        Raises:
            EditNotFoundError: when no such edit is active.
            EditError: when the target is the same or cannot be encoded.
        """
        with self._turn:
            plans = plan_replacement(self._session.history, number, target, rephrases)
            return write(self._session, "supersede", plans, known=self._known)[0]

    def remove(self, numbers: int | Iterable[int]) -> list[EditRecord]:
        """Remove edits as one operation; returns the records that are gone.

        Raises:
            EditNotFoundError: when one of them is not active; then none is removed.
        """
        with self._turn:
            return remove_edits(self._session, numbers)

    def undo(self) -> Undone:
        """Take back the last operation (edit, supersede or remove) that has not been taken back.

        The model then answers bit for bit as it did before that operation.

        Raises:
            EditError: when there is nothing left to undo, or nothing since :meth:`compact`.
        """
        with self._turn:
            return undo_last(self._session)

    def compact(self, *, above: float = 0.0) -> Compacted:
        """Drop the keys and values of edits that are not active, so that what is stored is what can be retrieved.

        Active edits keep keys, values and ids, bit for bit. No operation so far can be undone from then on; the history
        lists them still. Where every edit is active nothing is done.

        Args:
            above: a share of the entries; nothing is done either where no more are asleep. So a program may call this
                after each change, with 0.5 say, and pays for a compaction no more often than for as many changes.

        Raises:
            ConfigError: for what is no share.
        """
        with self._turn:
            return compact_session(self._session, self._askers.alone, above)

    def unwrap(self) -> PreTrainedModel:
        """Take every hook off and return the model as it was; the editor can be saved but no longer asked."""
        with self._turn:
            self._askers.alone(self._session.unwrap)
            return self.model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings, history and codebook into a folder, as a whole or not at all.

        Raises:
            StoreError: when it cannot be written, or was by others since this editor read or wrote it; it is intact.
            MismatchError: when the model's weights have changed since the codebook began.
        """
        with self._turn:
            self._session.save(path)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Put a saved codebook of this model in the place of this editor's own.

        Args:
            path: a folder written by :meth:`save`.

        Raises:
            StoreError: when the folder is missing, truncated or altered; nothing has changed.
            MismatchError: when it was made for another model, with other settings or by a newer version.
        """
        with self._turn:
            saved = Saved.read(path)
            check_same(path, saved.config.of_edits(), self.config.of_edits())
            self._askers.alone(lambda: self._session.restore(saved))

    def take_values(self, *paths: str | os.PathLike[str], keys: bool = False) -> None:
        """Take from now on the values of edits that saved codebooks hold from there, rather than train them.

        An edit of the same prompt, target and rephrases gets the same value whatever decides when it fires, so gates
        can be compared; and what several processes trained becomes one codebook (:meth:`merge`).

        Args:
            paths: folders written by :meth:`save`, of the same model and the same settings but those of gate, search
                and recall and similar_threshold. The threshold must be the same too: it decides which edits share a
                value. Of several that hold an edit the first counts; none at all ends this.
            keys: take keys too, from folders of this very key space and the same settings but search and recall.

        Raises:
            StoreError: when a folder is missing, truncated or altered.
            MismatchError: when it is of another model, or of settings with which values come out otherwise.
        """
        with self._turn:
            self._known = KnownValues([Saved.read(path) for path in paths], self._session, keys=keys)

    def merge(
        self, *paths: str | os.PathLike[str], on_conflict: OnConflict = "error", progress: Progress | None = None
    ) -> list[Receipt]:
        """Write the active edits of saved codebooks, the first one's first, as one operation: all of them or none.

        It is as if these edits were written here in that order, but with keys and values of the folders: only an edit
        that shares a value there and may not here is trained. What an earlier folder holds word for word is left out.

        Args:
            paths: folders written by :meth:`save`, of this model and these settings.
            on_conflict: when two of them, or one and a stored edit, have other targets for a prompt: "error" refuses
                all, "supersede" takes the later one's, "keep" the earlier one's.
            progress: see :meth:`edit`.

        Returns:
            One receipt for each edit that gave way to no other of the folders, in order.

        Raises:
            ConfigError: when no folder is given.
            StoreError: when one is missing, truncated or altered.
            MismatchError: when one is of another model or other settings.
            ConflictError: for a contradiction, with ``on_conflict="error"``.
        """
        check_choice(on_conflict)
        with self._turn:
            edits = parts_to_write(paths, self.config, on_conflict)
            before = self._known
            self.take_values(*paths, keys=True)
            try:
                return self.edit(edits, on_conflict, on_similar="ignore", progress=progress)
            finally:
                self._known = before

    def rekey(self, config: HorenConfig, *, progress: Progress | None = None) -> None:
        """Give every edit keys in the key space of other settings, without training a value: all of them or none.

        Values and history stay bit for bit, so undo goes on as before.

        Args:
            config: the new settings, the same as now in everything that values are trained with, such as
                ``editor.config.replace(read_sites="text")``.
            progress: called with (edits done, edits to do).

        Raises:
            ConfigError: when they differ in more, or name a site that the model does not have.
            ModelError: when a text encoder cannot be loaded.
        """
        with self._turn:
            new = renewed(self._session, config, progress)
            new.follow(self._session)

            def change() -> None:
                swap(self._session, new)
                self._session = new

            self._askers.alone(change)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | Saved,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        dtype: torch.dtype | str = "auto",
        device: str | torch.device | None = None,
        progress: bool = False,
        empty: bool = False,
        encoder: str | os.PathLike[str] | None = None,
        model_options: ModelOptions | None = None,
    ) -> Self:
        """Read a saved codebook and wrap its model.

        Args:
            path: a folder written by :meth:`save`, or what was read of one.
            model: the model it was made for; None loads it from where it came when the codebook was made.
            tokenizer: needed with ``model``.
            dtype: see :meth:`from_pretrained`; used without ``model``, like what follows.
            device: see :meth:`from_pretrained`.
            progress: see :meth:`from_pretrained`.
            empty: leave every edit out, for a codebook of the same settings and the same key space to begin with.
            encoder: the text encoder that made the keys, unless that is the package's own: a folder cannot name one.
            model_options: see :meth:`from_pretrained`; the revision is the saved one unless another is given.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made for another model or by a newer version.
            ModelError: when the model or the text encoder cannot be loaded, or that is not named.
            ConfigError: when a text encoder is named and none is read.
        """
        saved = (path if isinstance(path, Saved) else Saved.read(path)).with_encoder(encoder)
        saved = emptied(saved) if empty else saved
        if model is None and saved.source:
            options = saved.model_options(model_options)
            model, tokenizer = load_model(saved.source, dtype=dtype, device=device, progress=progress, options=options)
        if model is None:
            raise ModelError(f"{saved.path} does not record where its model came from: pass model= and tokenizer=.")
        if tokenizer is None:
            raise ModelError("A model was given without its tokenizer: pass tokenizer= too.")
        editor = cls(model, tokenizer, saved.config)
        try:
            editor._session.restore(saved)
        except BaseException:
            editor.unwrap()
            raise
        return editor
