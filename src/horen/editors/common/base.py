"""What the methods share, and the simplest of them: the model as it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config.settings import Settings
from horen.editing.plan import check_list
from horen.editors.common.states import read_state, write_state
from horen.editors.interface import Route
from horen.edits import Edit, same_text
from horen.errors import EditError
from horen.model.contexts import Contexts


class Untouched:
    """The model without any edit: what every method is measured against, and what the others are built on.

    Args:
        model: a decoder-only transformers model.
        tokenizer: the model's own.
    """

    name = "none"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.contexts = Contexts(model, tokenizer, ())

    def edit(self, edits: Sequence[Edit]) -> None:
        """Do nothing."""

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return token ids of each plain prompt.

        Raises:
            EditError: for a prompt that encodes to nothing.
        """
        rows = [self.contexts.plain(prompt) for prompt in prompts]
        for prompt, row in zip(prompts, rows, strict=True):
            if not row:
                raise EditError(f"The prompt {prompt!r} encodes to no token: write at least one word.")
        return rows

    def boundary(self, width: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """Do nothing: what is fed to the model is answered as it is."""
        return nullcontext()

    def disabled(self) -> AbstractContextManager[None]:
        """Do nothing: the model is always untouched."""
        return nullcontext()

    def routes(self, prompts: Sequence[str]) -> list[Route] | None:  # noqa: ARG002
        """Return None: no prompt is sent anywhere."""
        return None

    def stored_bytes(self) -> int:
        """Return 0: nothing is stored."""
        return 0

    def save(self, folder: Path) -> None:
        """Note in a folder that there is nothing to keep.

        Raises:
            StoreError: when the folder cannot be written.
        """
        write_state(folder, self.name, self.model, Settings().to_dict())

    def restore(self, folder: Path) -> None:
        """Check that the folder was written by :meth:`save` for this model.

        Raises:
            StoreError: when it was not; MismatchError when it was made for another model.
        """
        read_state(folder, self.name, self.model, Settings().to_dict())

    def close(self) -> None:
        """Do nothing: no hook was put on the model."""


def latest(edits: Sequence[Edit]) -> list[Edit]:
    """Return the edits in order; of several with the same prompt only the last, which replaces the others.

    Raises:
        EditError: when two of them want different answers to one wording.
    """
    kept: dict[str, Edit] = {}
    for edit in edits:
        kept.pop(same_text(edit.prompt), None)
        kept[same_text(edit.prompt)] = edit
    found = list(kept.values())
    check_list(found)
    return found
