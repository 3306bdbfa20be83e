"""The editor: the one object that a user holds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self, overload

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen import asking, doctor, explaining, plots, saving, withdrawing
from horen.asking import Messages
from horen.calibration.folder import Calibration
from horen.config import HorenConfig
from horen.diagnosis import Diagnosis
from horen.edits import Edit, EditRecord, Explanation, OnConflict, Receipt, Undone
from horen.errors import EditError, ModelError
from horen.known import KnownValues
from horen.model.embedded import full_name
from horen.model.loading import load_model
from horen.plans import check_list, plan
from horen.session import Session, check_parts
from horen.settings import check_same
from horen.store.history import Operation
from horen.writer import Progress, write

_log = logging.getLogger("horen")


class Editor:
    """Corrects what a causal language model knows, one fact after another, without touching its weights.

    Wrapping puts hooks on ``model``: its own ``forward`` and ``generate`` apply the edits from then on, until
    :meth:`unwrap`. Edits are made by one thread at a time.

    Args:
        model: a decoder-only transformers model with an MLP in its layers.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        calibration: how this model is read and gated, or the folder of it; its settings go before those of ``config``.

    Raises:
        ModelError: when the model is wrapped already or has no layers with an MLP.
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
            calibration = Calibration.load(calibration)
        self._session = Session(model, tokenizer, config or HorenConfig(), calibration)

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
    ) -> Self:
        """Load a model and wrap it.

        Args:
            name: an embedded name such as "smollm2-135m-instruct", a folder, or a hub id.
            config: the settings; None for the default preset.
            calibration: see :class:`Editor`.
            dtype: of the weights; "auto" keeps the saved one.
            device: where to put the model; None for the CPU.
            progress: show the fetching of an embedded model on standard error.

        Raises:
            ModelError: when the model cannot be loaded or wrapped.
        """
        model, tokenizer = load_model(name, dtype=dtype, device=device, progress=progress)
        editor = cls(model, tokenizer, config, calibration=calibration)
        editor._session.source = full_name(name)
        return editor

    @property
    def model(self) -> PreTrainedModel:
        """The wrapped transformers model."""
        return self._session.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._session.tokenizer

    @property
    def config(self) -> HorenConfig:
        """The settings."""
        return self._session.config

    def edit(
        self, edits: Sequence[Edit] | Edit, on_conflict: OnConflict = "error", *, progress: Progress | None = None
    ) -> list[Receipt]:
        """Write a list of edits as one operation: all of them or, on an error or interruption, none.

        Args:
            edits: what to write; one Edit counts as a list of one.
            on_conflict: when a stored edit of the same prompt has another target: "error" refuses the list,
                "supersede" replaces the stored edit, "keep" leaves it and skips the new one.
            progress: called with (edits done, edits to write) as training goes on.

        Returns:
            One receipt an edit, in order. An edit that did not converge is written all the same, says so in its
            receipt, and is logged as a warning.

        Raises:
            EditError: for a list that repeats or contradicts itself, or an edit that cannot be encoded.
            ConflictError: for a conflict, with ``on_conflict="error"``.
        """
        if not isinstance(edits, Edit | Iterable) or isinstance(edits, str):
            raise EditError(f"edits is {type(edits).__name__}: give Edit objects in a list.")
        given = [edits] if isinstance(edits, Edit) else list(edits)
        if on_conflict not in {"error", "supersede", "keep"}:
            raise EditError(f"on_conflict={on_conflict!r} is not valid: use 'error', 'supersede' or 'keep'.")
        check_list(given)
        receipts = write(self._session, "edit", plan(given, self._session.history, on_conflict), progress)
        for edit, receipt in zip(given, receipts, strict=True):
            if not receipt.converged and receipt.action in {"added", "superseded"}:
                _log.warning("Edit %d (%r) did not converge: loss %.3f.", receipt.id, edit.prompt, receipt.loss)
        return receipts

    def prepare(self) -> None:
        """Measure how the model reads, which the first edit otherwise does: seconds, once for each codebook."""
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
        old = self._session.history.get(number)
        edit = Edit(old.prompt, target, old.rephrases if rephrases is None else rephrases)
        plans = plan([edit], self._session.history, "supersede")
        if not plans[0].written:
            raise EditError(f"Edit {number} already answers {old.prompt!r} with {old.target!r}: give another target.")
        return write(self._session, "supersede", plans, None)[0]

    def remove(self, numbers: int | Iterable[int]) -> list[EditRecord]:
        """Remove edits as one operation; returns the records that are gone.

        Raises:
            EditNotFoundError: when one of them is not active; then none is removed.
        """
        return withdrawing.remove(self._session, [numbers] if isinstance(numbers, int) else numbers)

    def undo(self) -> Undone:
        """Take back the last operation (edit, supersede or remove) that has not been taken back.

        The model then answers bit for bit as it did before that operation.

        Raises:
            EditError: when there is nothing left to undo.
        """
        return withdrawing.undo(self._session)

    def edits(self) -> list[EditRecord]:
        """Active edits by id."""
        return self._session.history.active()

    def get(self, number: int) -> EditRecord:
        """The active edit of an id.

        Raises:
            EditNotFoundError: when there is none.
        """
        return self._session.history.get(number)

    def history(self) -> tuple[Operation, ...]:
        """Every operation since the codebook was new, oldest first, undone ones and undos included."""
        return self._session.history.operations

    @overload
    def generate(self, prompts: str, max_new_tokens: int = 24, *, chat: bool = False, **options: Any) -> str: ...
    @overload
    def generate(
        self, prompts: list[str] | tuple[str, ...], max_new_tokens: int = 24, *, chat: bool = False, **options: Any
    ) -> list[str]: ...
    def generate(
        self,
        prompts: str | list[str] | tuple[str, ...],
        max_new_tokens: int = 24,
        *,
        chat: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """Continue plain texts, greedily unless ``options`` say otherwise.

        Args:
            prompts: one text, or several that are run in padded batches.
            max_new_tokens: budget of an answer; it ends earlier at its natural end.
            chat: ask each text as a user message through the model's chat template.
            options: passed to transformers' ``generate``.

        Returns:
            The new text alone, without surrounding white space: a list for a list, one text for one.

        Raises:
            EditError: for an empty prompt or one that does not fit the model's context.
            ModelError: with ``chat``, when the tokenizer has no chat template.
        """
        texts = asking.texts_of(prompts)
        self._session.adapter  # noqa: B018 - an unwrapped editor must not answer as if it were wrapped
        answers = asking.generate(self._session, texts, chat=chat, max_new_tokens=max_new_tokens, options=options)
        return answers[0] if isinstance(prompts, str) else answers

    def chat(self, messages: Messages, max_new_tokens: int = 256, **options: Any) -> str:
        """Answer a conversation (messages with role and content) through the model's chat template.

        Raises:
            ModelError: when the tokenizer has no chat template.
            EditError: when the conversation is empty or does not fit the model's context.
        """
        self._session.adapter  # noqa: B018
        return asking.converse(self._session, messages, max_new_tokens, options)

    @overload
    def explain(self, texts: str, *, chat: bool = False, nearest: int = 5) -> Explanation: ...
    @overload
    def explain(
        self, texts: list[str] | tuple[str, ...], *, chat: bool = False, nearest: int = 5
    ) -> list[Explanation]: ...
    def explain(
        self, texts: str | list[str] | tuple[str, ...], *, chat: bool = False, nearest: int = 5
    ) -> Explanation | list[Explanation]:
        """Say which edit a text comes nearest to, and whether it wakes it; one Explanation for one text.

        Args:
            texts: one text or several.
            chat: read them as user messages through the chat template.
            nearest: how many of the nearest edits to tell of; 0 is quickest.

        Raises:
            EditError: for an empty text or one that does not fit the model's context.
        """
        found = explaining.explain(self._session, asking.texts_of(texts), chat=chat, nearest=nearest)
        return found[0] if isinstance(texts, str) else found

    def plot(self, text: str, path: str | os.PathLike[str], *, chat: bool = False, nearest: int = 5) -> Explanation:
        """Draw a text among the edits around it into a .png or .svg file, and explain it.

        Keys stand at their true angle from the query as it ended (:func:`horen.memory.azimuthal`), with the way it came
        and the edits' scores. The arguments are those of :meth:`explain`.

        Raises:
            ModelError: when matplotlib (extra ``bench``) is not installed.
            DataError: when the file cannot be written, or has another suffix.
            EditError: also when no edit is stored.
        """
        return plots.plot(self._session, text, Path(path), chat=chat, nearest=nearest)

    def doctor(self, *, chat: bool = True, progress: Progress | None = None) -> Diagnosis:
        """Route every stored prompt and rephrase anew, to find edits that would misroute now and what to do about them.

        Args:
            chat: read each of them as a user message too, where the tokenizer has a chat template.
            progress: called with (readings done, readings to do).
        """
        return doctor.diagnose(self._session, chat=chat, progress=progress)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The untouched model within the block, in this thread."""
        with self._session.adapter.disabled():
            yield

    def prompt_end(self, width: int) -> AbstractContextManager[None]:
        """A context in which the first ``width`` columns fed to the model are the prompt and the rest is an answer.

        For callers that run ``model(**inputs)`` on a prompt and its answer together, without labels.
        """
        return self._session.adapter.boundary(width)

    def unwrap(self) -> PreTrainedModel:
        """Take every hook off and return the model as it was; the editor can be saved but no longer asked."""
        self._session.unwrap()
        return self.model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings, history and codebook into a folder, as a whole or not at all.

        Raises:
            StoreError: when the folder cannot be written; what it held before is intact.
        """
        saving.save(self._session, path)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Put a saved codebook of this model in the place of this editor's own.

        Args:
            path: a folder written by :meth:`save`.

        Raises:
            StoreError: when the folder is missing, truncated or altered; nothing has changed.
            MismatchError: when it was made for another model, with other settings or by a newer version.
        """
        saved = saving.Saved.read(path)
        check_same(path, saved.config.to_dict(), self.config.to_dict())
        saved.restore(self._session)

    def take_values(self, path: str | os.PathLike[str]) -> None:
        """From now on take the values of edits that a saved codebook holds from there, rather than train them.

        Meant for comparing gates: an edit of the same prompt, target and rephrases gets the same value whatever decides
        when it fires.

        Args:
            path: a folder written by :meth:`save`, of the same model and the same settings but those of the gate
                (alpha, beta, steps, epsilon, contrast, neighbours).

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it is of another model, or of settings with which values come out otherwise.
        """
        self._session.known = KnownValues(path, self._session)

    @property
    def stored_bytes(self) -> int:
        """Bytes that the codebook takes in memory; removed and superseded edits, which undo can wake, included."""
        return self._session.codebook().nbytes if self.history() else 0

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        dtype: torch.dtype | str = "auto",
        device: str | torch.device | None = None,
        progress: bool = False,
    ) -> Self:
        """Read a saved codebook and wrap its model.

        Args:
            path: a folder written by :meth:`save`.
            model: the model it was made for; None loads it from where it came when the codebook was made.
            tokenizer: needed with ``model``.
            dtype: see :meth:`from_pretrained`; used without ``model``, like what follows.
            device: see :meth:`from_pretrained`.
            progress: see :meth:`from_pretrained`.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made for another model or by a newer version.
            ModelError: when the model cannot be loaded.
        """
        saved = saving.Saved.read(path)
        if model is None and saved.source:
            model, tokenizer = load_model(saved.source, dtype=dtype, device=device, progress=progress)
        if model is None:
            raise ModelError(f"{path} does not record where its model came from: pass model= and tokenizer=.")
        if tokenizer is None:
            raise ModelError("A model was given without its tokenizer: pass tokenizer= too.")
        editor = cls(model, tokenizer, saved.config)
        try:
            saved.restore(editor._session)
        except BaseException:
            editor.unwrap()
            raise
        return editor
