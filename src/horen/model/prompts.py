"""Finding prompts in token ids: where a prompt ends, and which of its tokens are the user's own words.

A chat template puts scaffold around a user's words. What that scaffold looks like is learned by rendering the
tokenizer's own template around probe texts, so no family's special strings are known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

# Of a long text also its last sentences are candidates, each alone a possible question after unrelated words.
_MOST_TAILS = 4
_SHORTEST_TAIL = 3
_PROBES = ("apple", "Seven green boats.", "Why not?")
#: What ends a question or a sentence.
SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "؟", "।")
_CLOSERS = "\"'”’)]»"


@dataclass(frozen=True)
class Prompt:
    """One prompt within a row of token ids.

    Attributes:
        at: index of its last token, scaffold included: where a value is written.
        spans: candidate readings as [start, stop) ranges of token indices; the whole of the user's words comes first.
        asked: index of the last token before a chat's answer, where that was begun and belongs to the prompt.
    """

    at: int
    spans: tuple[tuple[int, int], ...]
    asked: int | None = None


@dataclass(frozen=True)
class Placed:
    """A prompt in a batch: ``ids`` are the row's real tokens, which begin at column ``offset`` of the input."""

    row: int
    offset: int
    ids: tuple[int, ...]
    prompt: Prompt


@dataclass(frozen=True)
class _Scaffold:
    header: tuple[int, ...]
    footer: tuple[int, ...]


class PromptReader:
    """Finds the prompts in rows of token ids.

    Args:
        tokenizer: of the model whose ids are read.
        words_only: read the user's words alone; otherwise every token from the row's start to the prompt's end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, words_only: bool) -> None:
        self._tokenizer = tokenizer
        self._words_only = words_only
        self._special = frozenset(tokenizer.all_special_ids)
        self._pieces: dict[int, str] = {}
        self._scaffold = _learn_scaffold(tokenizer)

    def read(self, ids: Sequence[int], end: int | None = None) -> Prompt:
        """Return the prompt of one row without padding: of a chat the last user turn.

        Earlier turns were answered, and what is asked now is answered by the model as it finds them.

        Args:
            ids: token ids of the row.
            end: number of tokens that belong to the prompt, where the caller knows it: what follows is an answer.

        Raises:
            ValueError: when no token belongs to it.
        """
        stop = len(ids) if end is None else min(end, len(ids))
        if stop <= 0:
            raise ValueError(f"none of {len(ids)} tokens belongs to the prompt (end={end})")
        if not self._words_only:
            return Prompt(stop - 1, ((0, stop),))
        turn = self._turn(list(ids[:stop]))
        if turn is None:
            return self._prompt(ids, 0, stop, stop - 1)
        prompt = self._prompt(ids, *turn)
        if end is None or prompt.at == stop - 1:
            return prompt
        return Prompt(stop - 1, prompt.spans, prompt.at)

    def opens_turn(self, ids: Sequence[int]) -> bool:
        """Return whether what comes behind kept tokens is another prompt, not the step of an answer.

        That is a user's turn or, where the tokenizer has no chat template, any text of several tokens.
        """
        return len(ids) > 1 if self._scaffold is None else self._turn(list(ids)) is not None

    def text(self, ids: Sequence[int], span: tuple[int, int]) -> str:
        """Return the words of a span."""
        return str(self._tokenizer.decode(list(ids[span[0] : span[1]]), skip_special_tokens=True)).strip()

    def _turn(self, ids: list[int]) -> tuple[int, int, int] | None:
        """Return (start, stop, last token) of the last user turn; None when the ids are no rendered chat."""
        if self._scaffold is None:
            return None
        header, footer = self._scaffold.header, self._scaffold.footer
        starts = [at + len(header) for at in _occurrences(ids, header)]
        # A header's beginning may have gone by in an earlier call and lie in the cache.
        cut = next((n for n in range(len(header) - 1, 0, -1) if tuple(ids[:n]) == header[-n:]), 0)
        if starts:
            start = starts[-1]
        elif not self._special.isdisjoint(ids[:cut]):
            start = cut
        elif tuple(ids[-len(footer) :]) == footer:
            start = 0  # all of it did
        else:
            return None
        close = next((at for at in _occurrences(ids, footer) if at >= start), None)
        if close is not None:
            return start, close, close + len(footer) - 1
        # No generation prompt yet: the turn ends at its first special token, or with the ids.
        return start, next((i for i in range(start, len(ids)) if ids[i] in self._special), len(ids)), len(ids) - 1

    def _prompt(self, ids: Sequence[int], start: int, stop: int, at: int) -> Prompt:
        while start < stop and (ids[start] in self._special or self._piece(ids[start]).isspace()):
            start += 1
        while stop > start and ids[stop - 1] in self._special:
            stop -= 1
        if start == stop:
            return Prompt(at, ((max(at, 0), at + 1),))
        tails = [i for i in range(start + 1, stop) if self._begins_sentence(ids, i) and stop - i >= _SHORTEST_TAIL]
        return Prompt(at, ((start, stop), *((i, stop) for i in tails[-_MOST_TAILS:])))

    def _begins_sentence(self, ids: Sequence[int], index: int) -> bool:
        before, here = self._piece(ids[index - 1]), self._piece(ids[index])
        if here.isspace():
            return False
        if "\n" in before:
            return True
        end = index - 1
        while end > 0 and not before.rstrip().rstrip(_CLOSERS):
            end, before = end - 1, self._piece(ids[end - 1])
        ended = before.rstrip().rstrip(_CLOSERS).endswith(SENTENCE_ENDS)
        # "3.5" and "e.g.," go on without a blank; scripts that write none end sentences with signs of their own.
        return ended and (here[:1].isspace() or not before.isascii())

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            # Decoded behind another token, because some tokenizers drop the blank that a text begins with.
            anchor = self._tokenizer.decode([token, token])
            alone = self._tokenizer.decode([token])
            self._pieces[token] = str(anchor[len(alone) :] or alone)
        return self._pieces[token]


def _occurrences(ids: list[int], pattern: tuple[int, ...]) -> list[int]:
    first, size = pattern[0], len(pattern)
    return [i for i in range(len(ids) - size + 1) if ids[i] == first and tuple(ids[i : i + size]) == pattern]


def _learn_scaffold(tokenizer: PreTrainedTokenizerBase) -> _Scaffold | None:
    """Return token ids that stand right before and right after a user's words, in a first turn and in a later one."""
    befores, afters = [], []
    for probe in _PROBES:
        for earlier in ([], [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]):
            rendered = rendered_chat(tokenizer, [*earlier, {"role": "user", "content": probe}], answering=True)
            start = -1 if rendered is None else rendered.rfind(probe)
            if rendered is None or start < 0:
                return None
            encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
            offsets, ids = encoded["offset_mapping"], encoded["input_ids"]
            befores.append([i for i, (_, high) in zip(ids, offsets, strict=True) if high <= start][::-1])
            afters.append([i for i, (low, _) in zip(ids, offsets, strict=True) if low >= start + len(probe)])
    header, footer = _common_prefix(befores)[::-1], _common_prefix(afters)
    # White space that ends the header may merge with white space that a text begins with.
    while header and str(tokenizer.decode(header[-1:])).isspace():
        header.pop()
    return _Scaffold(tuple(header), tuple(footer)) if header and footer else None


def rendered_chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, answering: bool = False
) -> str | None:
    """Return a conversation as text, with ``answering`` up to where the answer begins.

    It is None where the tokenizer cannot.
    """
    if not tokenizer.chat_template:
        return None
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering))
    except TemplateError:
        return None


def _common_prefix(rows: list[list[int]]) -> list[int]:
    shared = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared
