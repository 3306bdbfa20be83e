"""Editing and asking a model by any method of the benchmark, with the verbs of the editor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, overload

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.asking.generate import answers, budget, encode, texts_of
from horen.config.settings import Settings
from horen.editing.plan import listed
from horen.editors.common.base import Untouched
from horen.editors.common.weights import WeightMethod
from horen.editors.registry import open_method, settings_of
from horen.editors.retrieval import Retrieval
from horen.edits import Edit
from horen.errors import ConfigError, ModelError
from horen.model.zoo.loading import ModelOptions, load_model


class MethodEditor:
    """A model that another editor than HoReN corrects; :func:`horen.api.open_editor` makes one.

    It has the verbs of :class:`horen.Editor` that every method can have. Which edits hold, and what becomes of other
    prompts, is the method's own affair.

    Args:
        method: an open method.
    """

    def __init__(self, method: Untouched) -> None:
        self._method = method

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        method: str,
        config: Settings | None = None,
        *,
        dtype: torch.dtype | str = "auto",
        device: str | torch.device | None = None,
        progress: bool = False,
        model_options: ModelOptions | None = None,
    ) -> Self:
        """Load a model and open a method on it.

        Args:
            name: an embedded name such as "smollm2-135m-instruct", a folder, a GGUF file, or a hub id.
            method: one of ``horen.editors.METHODS``.
            config: the method's settings; None for its default preset.
            dtype: see :meth:`horen.Editor.from_pretrained`, as for what follows.
            device: where to put the model; None for the CPU.
            progress: show the fetching of an embedded model on standard error.
            model_options: what else transformers is told.

        Raises:
            ConfigError: for an unknown method, or settings that are not the method's or do not fit the model.
            ModelError: when the model cannot be loaded or the method cannot be opened on it.
        """
        kind = settings_of(method)
        if config is not None and not isinstance(config, kind):
            raise ConfigError(
                f"config is {type(config).__name__}, but the settings of {method!r} are {kind.__name__}: "
                f"pass {kind.__name__}(…), or None for the default preset."
            )
        model, tokenizer = load_model(name, dtype=dtype, device=device, progress=progress, options=model_options)
        opened = open_method(method, model, tokenizer, settings=None if config is None else config.to_dict())
        assert isinstance(opened, Untouched)  # noqa: S101 - every method is built on it
        return cls(opened)

    @property
    def method(self) -> str:
        """Name of the method."""
        return self._method.name

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model, which answers with the edits until :meth:`unwrap`."""
        return self._method.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._method.tokenizer

    @property
    def stored_bytes(self) -> int:
        """Bytes that the edits take in memory, beyond the model."""
        return self._method.stored_bytes()

    def edit(self, edits: Sequence[Edit] | Edit) -> None:
        """Write edits as one batch, superseding what was written for their prompts: all of them or, on an error, none.

        Raises:
            EditError: for a list whose rephrases contradict it, or an edit that cannot be encoded.
            ModelError: after :meth:`unwrap`.
        """
        self._method.edit(listed(edits))

    @overload
    def generate(
        self, prompts: str, max_new_tokens: int | None = None, *, chat: bool = False, **options: Any
    ) -> str: ...
    @overload
    def generate(
        self,
        prompts: list[str] | tuple[str, ...],
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        **options: Any,
    ) -> list[str]: ...
    def generate(
        self,
        prompts: str | list[str] | tuple[str, ...],
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """Continue plain texts or, with ``chat``, answer user messages; see :meth:`horen.Editor.generate`.

        Raises:
            EditError: for an empty prompt or one that does not fit the model's context.
            ModelError: with ``chat``, when the tokenizer has no chat template, or the method puts facts before plain
                prompts only.
        """
        texts, method = texts_of(prompts), self._method
        if chat and isinstance(method, Retrieval):
            raise ModelError(f"{self.method!r} puts facts before plain prompts: ask without chat.")
        room = budget(max_new_tokens, options, 24)
        rows = [encode(method, text, chat=chat, room=room) for text in texts]
        if not chat:
            rows = method.rows(texts)
        found = answers(method, rows, room, options)
        return found[0] if isinstance(prompts, str) else found

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Leave the model untouched within the block."""
        with self._method.disabled():
            yield

    def undo(self) -> None:
        """Take back the last call of :meth:`edit` that wrote something, bit for bit.

        Raises:
            ModelError: when there is none, or the method cannot: only those that change weights can.
        """
        if not isinstance(self._method, WeightMethod):
            raise ModelError(f"{self.method!r} cannot take an edit back: save() before it, and restore() after it.")
        self._method.undo()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the edits into a folder, as a whole or not at all.

        Raises:
            StoreError: when the folder cannot be written; what it held before is intact.
        """
        self._method.save(Path(path))

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Take up what :meth:`save` wrote in the place of the present edits.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made with other settings, for another model or by a newer version.
        """
        self._method.restore(Path(path))

    def unwrap(self) -> PreTrainedModel:
        """Return the model as it was; once more does nothing else."""
        self._method.close()
        return self.model
