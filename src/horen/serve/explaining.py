"""Saying where prompts go, by what routes them."""

from __future__ import annotations

import threading
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from horen.edits import Explanation
from horen.errors import EditError
from horen.front.front import Front
from horen.front.wish import Among, Wish
from horen.serve.engines.interface import Wanted
from horen.serve.service import Messages


class FrontExplainer:
    """Explains what a front does: :class:`horen.serve.service.Explainer`.

    Args:
        front: that routes the prompts which are answered, or one like it.
        tokenizer: of the model; nobody else may use it.
    """

    def __init__(self, front: Front, tokenizer: PreTrainedTokenizerBase) -> None:
        self._front, self._tokenizer = front, tokenizer
        # A tokenizer is changed while it reads, so one thread at a time may have it.
        self._turn = threading.Lock()

    def explain(self, prompt: str | Messages, wanted: Wanted, nearest: int) -> Explanation:
        """Return where a text or a conversation goes; see :class:`horen.serve.service.Explainer`."""
        with self._turn:
            row, text = self._read(prompt)
        if not row:
            raise EditError("The prompt encodes to nothing: write at least one word.")
        wish = Wish(wanted.on, wanted.version, Among(wanted.only, wanted.without))
        return self._front.explain(row, text, wish, nearest)

    def _read(self, prompt: str | Messages) -> tuple[list[int], str]:
        tokenizer: Any = self._tokenizer
        if isinstance(prompt, str):
            return list(tokenizer(prompt)["input_ids"]), prompt
        said = [message["content"] for message in prompt if message["role"] == "user"]
        if not said:
            raise EditError("The conversation has no message of a user: nothing in it asks for an answer.")
        try:
            row = tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_dict=False)
        except (TemplateError, ValueError) as error:
            raise EditError(f"The model's chat template does not take this conversation ({error}).") from error
        return list(row), said[-1]
