"""Turning an edit into token ids: its wordings in every context in which the value shall hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.edits import Edit
from horen.errors import EditError
from horen.model.partial.tail import Sample
from horen.model.prompts import SENTENCE_ENDS, rendered_chat

# Scripts that put no blank between words: there a target follows its prompt directly.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF))
# Paragraphs that training prompts follow: few, because edits after the same one share its keys and values.
_PARAGRAPHS = 8


@dataclass(frozen=True)
class Ends:
    """Token ids that end an answer: in plain text, in chat, and all that stop generation."""

    plain: int | None
    chat: int | None
    all: tuple[int, ...]


class Contexts:
    """Renders prompts and edits for one model.

    Args:
        model: for its context length and its end tokens.
        tokenizer: of the same model.
        paragraphs: unrelated text to put before a prompt in training.

    Attributes:
        limit: tokens that the model's context holds, None where it does not say.
        ends: token ids that end an answer.
        has_chat: whether the tokenizer carries a chat template that takes a user's message.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, paragraphs: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._paragraphs = paragraphs
        self.limit: int | None = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self.ends = ends_of(model, tokenizer)
        self.has_chat = rendered_chat(tokenizer, [{"role": "user", "content": "Hello"}]) is not None

    def plain(self, text: str) -> list[int]:
        """Return token ids of plain text, with what the tokenizer puts before every text."""
        return list(self._tokenizer(text)["input_ids"])

    def chat(self, messages: Sequence[dict[str, Any]], template: Mapping[str, Any] | None = None) -> list[int]:
        """Return token ids of a conversation up to where the answer begins.

        Args:
            messages: with role and content each.
            template: what the chat template is told beside them.

        Raises:
            EditError: when the template refuses it, such as one without a user's message.
        """
        encoded: Any
        try:
            encoded = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=True, **(template or {})
            )
        except TemplateError as error:
            raise EditError(f"The chat template refuses this conversation ({error}): change its roles.") from error
        return list(encoded["input_ids"])

    def wordings(self, edit: Edit) -> list[list[int]]:
        """Return token ids of the edit's prompt and rephrases as plain text: what its keys are made of.

        Raises:
            EditError: for a wording that is longer than the context, or of which no token is left.
        """
        rows = []
        for text in dict.fromkeys((edit.prompt, *edit.rephrases)):
            ids = self.plain(text)
            if not self.says_something(ids):
                raise EditError(f"The prompt {_short(text)} encodes to no token: write some words.")
            self._check_length(text, len(ids))
            rows.append(ids)
        return rows

    def samples(self, edit: Edit, config: HorenConfig) -> list[Sample]:
        """Return training contexts of an edit; which paragraph it gets depends on its prompt alone.

        Raises:
            EditError: for a target that encodes to nothing, or a prompt that leaves it no room.
        """
        texts = list(dict.fromkeys((edit.prompt, *edit.rephrases)))
        if config.contexts == "prompt":
            return [self._plain_sample(edit.prompt, edit, config)]
        samples = [self._plain_sample(text, edit, config) for text in texts]
        # Asked without its mark: the answer shall not depend on what the prompt ends with.
        after_text = f"{self._unrelated(edit)}{_unmarked(edit.prompt)}"
        further = [self._plain_sample(after_text, edit, config, required=False)]
        if self.has_chat:
            target = self._target(edit, self._tokenizer(edit.target, add_special_tokens=False)["input_ids"])
            end = self._end(self.ends.chat, config)
            asked = [self.chat([{"role": "user", "content": text}]) for text in texts]
            further += [Sample(tuple(ids), (*target, *end)) for ids in asked]
        return samples + [sample for sample in further if self._fits(sample)]

    def unasked(self, edit: Edit, config: HorenConfig) -> Sample | None:
        """Return an edit's target behind the same paragraph, with nothing asked.

        What holds there holds behind any wording. None where it does not fit, or where edits are trained on their
        prompt alone.
        """
        if config.contexts == "prompt":
            return None
        sample = self._plain_sample(self._unrelated(edit), edit, config, required=False)
        return sample if self._fits(sample) else None

    def _unrelated(self, edit: Edit) -> str:
        """Return a paragraph and the white space behind it."""
        draw = int.from_bytes(hashlib.sha256(edit.prompt.encode()).digest()[:4], "big")
        before = self._paragraphs[draw % min(len(self._paragraphs), _PARAGRAPHS)]
        return before + (" ", "\n", "\n\n")[draw // 101 % 3]

    def renderings(self, edit: Edit) -> tuple[tuple[int, ...], ...]:
        """Return token ids of an edit's target without an end token, behind its prompt and by itself, as in chat."""
        plain = self._plain_sample(edit.prompt, edit, HorenConfig(train_end=False), required=False).target
        alone = tuple(self._tokenizer(edit.target, add_special_tokens=False)["input_ids"])
        return tuple(dict.fromkeys((plain, alone)))

    def _plain_sample(self, text: str, edit: Edit, config: HorenConfig, *, required: bool = True) -> Sample:
        ids = self.plain(text)
        blank = blank_after(text)
        joined = self.plain(text + blank + edit.target)
        if joined[: len(ids)] == ids:
            target = joined[len(ids) :]
            specials = self._tokenizer.all_special_ids
            while target and target[-1] in specials:  # some tokenizers close every text themselves
                target.pop()
        else:
            target = list(self._tokenizer(blank + edit.target, add_special_tokens=False)["input_ids"])
        sample = Sample(tuple(ids), (*self._target(edit, target), *self._end(self.ends.plain, config)))
        if required:
            self._check_length(text, len(sample.prompt) + len(sample.target))
        return sample

    def _target(self, edit: Edit, ids: Sequence[int]) -> Sequence[int]:
        if not self.says_something(ids):
            raise EditError(
                f"The target {_short(edit.target)} of {_short(edit.prompt)} encodes to no token of this model: "
                "write it with characters that its tokenizer knows."
            )
        return ids

    def _end(self, token: int | None, config: HorenConfig) -> tuple[int, ...]:
        return (token,) if config.train_end and token is not None else ()

    def says_something(self, ids: Sequence[int]) -> bool:
        """Return whether token ids hold any text."""
        # Some tokenizers drop characters they do not know, or write one token for any of them.
        return bool(str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip())

    def _fits(self, sample: Sample) -> bool:
        return self.limit is None or len(sample.prompt) + len(sample.target) <= self.limit

    def _check_length(self, text: str, length: int) -> None:
        if self.limit is not None and length > self.limit:
            raise EditError(
                f"The prompt {_short(text)} needs {length} tokens with its target, but the model's context holds "
                f"{self.limit}: shorten it."
            )


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Ends:
    """Return the tokens that end an answer of this model."""
    given = model.generation_config.eos_token_id if model.generation_config is not None else None
    known = [given] if isinstance(given, int) else list(given or [])
    if not known and tokenizer.eos_token_id is not None:
        known = [int(tokenizer.eos_token_id)]
    plain = known[0] if known else None
    chat = plain
    turn = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Goodbye"}]
    rendered = rendered_chat(tokenizer, turn)
    if rendered is not None:
        tail = rendered[rendered.rfind("Goodbye") + len("Goodbye") :]
        after = tokenizer(tail, add_special_tokens=False)["input_ids"]
        # What the template writes after an answer ends it in chat, if it is a token of its own.
        if after and after[0] in tokenizer.all_special_ids:
            chat = int(after[0])
    return Ends(plain, chat, tuple(dict.fromkeys(token for token in (*known, chat) if token is not None)))


def greedy(ends: Ends, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> dict[str, Any]:
    """Return what ``model.generate`` is told for the likeliest answer, of so many tokens at most, up to its end."""
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends.all[0] if ends.all else 0
    return {
        "do_sample": False,
        "max_new_tokens": max_new_tokens,
        "eos_token_id": list(ends.all) or None,
        "pad_token_id": pad,
    }


def _unmarked(text: str) -> str:
    """Return a prompt without the mark that ends it; one of marks alone stays."""
    return text.rstrip().rstrip("".join(SENTENCE_ENDS)).rstrip() or text


def blank_after(text: str) -> str:
    """Return what stands between a prompt and its target.

    It is a blank, or nothing where there is one or the script has none.
    """
    return "" if text[-1].isspace() or _unspaced(text[-1]) else " "


def _unspaced(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in _UNSPACED)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
