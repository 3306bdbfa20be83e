"""The interface that every editor of a benchmark implements; the scorer knows nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.edits import Edit


@dataclass(frozen=True)
class Route:
    """Where a method sends a prompt.

    Attributes:
        prompt: the edit prompt of the nearest edit; None when nothing is stored.
        score: how near it is, greater is nearer; comparable between prompts of one method.
        fired: whether the edit is applied.
    """

    prompt: str | None
    score: float
    fired: bool


class Method(Protocol):
    """An editor of ``model``; while it is open the model answers with its edits.

    Everything is scored by running ``model`` on the rows that ``rows`` makes of prompts, so that all methods meet one
    scorer; ``rows`` is where a method that works in context puts its context.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def edit(self, edits: Sequence[Edit]) -> None:
        """Apply edits in order as one batch; a prompt that was edited before gets its new target."""
        ...

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return token ids to feed for each plain prompt, without padding."""
        ...

    def boundary(self, width: int) -> AbstractContextManager[None]:
        """Let the first ``width`` columns fed to ``model`` within the block be the prompt; the rest is an answer."""
        ...

    def disabled(self) -> AbstractContextManager[None]:
        """Make ``model`` the untouched one and ``rows`` plain prompts, within the block."""
        ...

    def routes(self, prompts: Sequence[str]) -> list[Route] | None:
        """Return where prompts go, or None for a method that routes nothing."""
        ...

    def stored_bytes(self) -> int:
        """Return the bytes that the edits take in memory, beyond the model."""
        ...

    def save(self, folder: Path) -> None:
        """Keep the state in a folder, as a whole or not at all."""
        ...

    def restore(self, folder: Path) -> None:
        """Take the state of :meth:`save` up again, in a method that was opened on the same model."""
        ...

    def close(self) -> None:
        """Leave the model as it was."""
        ...
