"""Text of an answer as it comes, token by token: never half a character, and nothing of a text that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# So many of a prompt's last tokens say how an answer's first word is spelled.
_BEHIND = 8
# What a text ends with whose last character is not whole yet.
_PART = "\N{REPLACEMENT CHARACTER}"


class Words:
    """The text of one answer.

    Args:
        tokenizer: a fast one of transformers.
        prompt: token ids of the prompt, which the answer goes on from.
        stops: texts before which it ends.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        # Of these tokens those before ``_read`` are text that was given; they begin where that went on last.
        self._ids = list(prompt[-_BEHIND:])
        self._read = len(self._ids)
        self._stops = tuple(stops)
        self._held = ""
        #: Whether a text was reached that ends the answer.
        self.stopped = False

    def add(self, token: int) -> str:
        """Return the text that a further token makes certain."""
        self._held += self._more(token)
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            certain, self._held = self._held[: min(found)], ""
            return certain
        kept = max((_begun(self._held, stop) for stop in self._stops), default=0)
        certain, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return certain

    def _more(self, token: int) -> str:
        """Return what a further token adds to the text; nothing while a character is not whole."""
        self._ids.append(token)
        before, text = self._decoded(self._ids[: self._read]), self._decoded(self._ids)
        if text.endswith(_PART) or len(text) <= len(before):
            return ""
        # The tokens before stay for a while, because some say how those behind them are spelled.
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        return text[len(before) :]

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def end(self) -> str:
        """Return what was held back, now that nothing more comes."""
        certain, self._held = self._held, ""
        return certain


def _begun(text: str, stop: str) -> int:
    """Return how many characters at a text's end may be the beginning of a stop text."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-n:])), 0)


def spelled(tokenizer: Any, token: int) -> str:
    """Return what a token says, also a special one; a part of a character is the replacement character."""
    # Decoded behind another token, because some tokenizers drop the blank that a text begins with.
    alone = str(tokenizer.decode([token]))
    return str(tokenizer.decode([token, token]))[len(alone) :] or alone
