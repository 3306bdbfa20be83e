"""What the methods share that act through hooks and leave the weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.common.base import Untouched
from horen.errors import ModelError
from horen.model.adapter import Adapter

A = TypeVar("A", bound=Adapter)


class HookedMethod(Untouched, Generic[A]):
    """A method whose edits are applied by an adapter.

    Args:
        model: a decoder-only transformers model.
        tokenizer: the model's own, a fast one.
        adapter: of the model, not yet wrapped.

    Raises:
        ModelError: when the model is wrapped already.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, adapter: A) -> None:
        super().__init__(model, tokenizer)
        self._adapter = adapter
        adapter.wrap()

    def boundary(self, width: int) -> AbstractContextManager[None]:
        """Let the first ``width`` columns fed to the model within the block be the prompt.

        Raises:
            ModelError: after :meth:`close`.
        """
        return self._wrapped().boundary(width)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Leave the model untouched within the block, in this thread.

        Raises:
            ModelError: after :meth:`close`.
        """
        with self._wrapped().disabled():
            yield

    def close(self) -> None:
        """Take every hook off the model; once more does nothing."""
        self._adapter.unwrap()

    def _wrapped(self) -> A:
        if not self._adapter.installed:
            raise ModelError(f"This method was closed: open it again with open_method({self.name!r}, …).")
        return self._adapter
