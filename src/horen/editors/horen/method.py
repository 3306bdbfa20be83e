"""HoReN itself as a method of the benchmark, and its codebook without the Hopfield step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.editor import Editor
from horen.editors.common.base import Untouched, latest
from horen.editors.interface import Route
from horen.edits import Edit


class CodebookMethod(Untouched):
    """An :class:`horen.Editor` under the name that its settings have in a benchmark.

    Args:
        name: of the method.
        model: a decoder-only transformers model with an MLP in its layers.
        tokenizer: the model's own, a fast one.
        config: the editor's settings.

    Raises:
        ModelError: when the model is wrapped already or has no layers with an MLP.
        ConfigError: when the settings name a layer or site that the model does not have.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: HorenConfig
    ) -> None:
        self.name = name
        self.editor = Editor(model, tokenizer, config)
        super().__init__(model, tokenizer)

    def edit(self, edits: Sequence[Edit]) -> None:
        """Write the edits as one operation, superseding what is stored for their prompts.

        Raises:
            EditError: for a list whose rephrases contradict it, or an edit that cannot be encoded; nothing changed.
        """
        self.editor.edit(latest(edits), on_conflict="supersede", on_similar="ignore")

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return each prompt's token ids; with ``recall`` those that recall facts have them and wake no edit.

        Raises:
            EditError: for a prompt that encodes to nothing.
        """
        return super().rows(prompts) if self.editor.config.recall == "off" else self.editor.rows(prompts)

    def boundary(self, width: int) -> AbstractContextManager[None]:
        """Let the first ``width`` columns fed to the model within the block be the prompt."""
        return self.editor.prompt_end(width)

    def disabled(self) -> AbstractContextManager[None]:
        """Leave the model untouched within the block."""
        return self.editor.disabled()

    def routes(self, prompts: Sequence[str]) -> list[Route]:
        """Return where prompts go; the score is what the threshold is compared with, −inf if nothing is stored."""
        found = []
        for seen in self.editor.explain(list(prompts), nearest=0, recall="off"):
            if seen.edit_id is None or seen.score is None:
                found.append(Route(None, -math.inf, False))
            else:
                found.append(Route(self.editor.get(seen.edit_id).prompt, seen.score, seen.fired))
        return found

    def stored_bytes(self) -> int:
        """Return the bytes of the codebook's keys, values and each key's value number, superseded ones too."""
        return self.editor.stored_bytes

    def save(self, folder: Path) -> None:
        """Write the editor's own folder; :meth:`horen.Editor.load` reads it too.

        Raises:
            StoreError: when the folder cannot be written.
        """
        self.editor.save(folder)

    def restore(self, folder: Path) -> None:
        """Put what the folder holds into the editor that wraps the model.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made with other settings, for another model or by a newer version.
        """
        self.editor.restore(folder)

    def close(self) -> None:
        """Take every hook off the model; once more does nothing."""
        self.editor.unwrap()
