"""What a running service is made of, for its routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from transformers import PreTrainedTokenizerBase

from horen.edits import Explanation
from horen.serve.engines.interface import Engine, Wanted
from horen.serve.life import Life
from horen.serve.prompts import Prompts
from horen.serve.settings import Settings
from horen.serve.telemetry.metrics import Metrics
from horen.serve.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from horen.database import Store

#: A conversation: role and content of each message.
Messages = Sequence[dict[str, str]]


class Explainer(Protocol):
    """Says why a text wakes an edit; called by several threads."""

    def explain(self, prompt: str | Messages, wanted: Wanted, nearest: int) -> Explanation:
        """Return where a text goes, without an answer.

        Args:
            prompt: a text, or a conversation.
            wanted: which edits may answer.
            nearest: how many of the nearest edits are told.

        Raises:
            ConfigError: for a version that is not there.
            EditError: for a conversation that the chat template refuses.
            ModelError: when it cannot be done now.
        """
        ...


class Trainer(Protocol):
    """Trains drafts, beside the service."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        ...

    def close(self) -> None:
        """End it; a draft in training waits again."""
        ...


@dataclass(frozen=True)
class Service:
    """What a running service is made of.

    Attributes:
        store: its edits.
        engine: what answers.
        settings: how it is run.
        explainer: what says where prompts go; None where nothing can.
        tokenizer: of the model.
        trainer: what trains drafts; None where another process does.
        prompts: the most frequent ones.
        metrics: what is counted.
        life: whether it runs or ends.
        tracing: what makes spans.
    """

    store: Store
    engine: Engine
    settings: Settings
    explainer: Explainer | None
    tokenizer: PreTrainedTokenizerBase | None
    trainer: Trainer | None
    prompts: Prompts
    metrics: Metrics
    life: Life
    tracing: Tracing
