"""Asking a wrapped model, in plain text and in chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.edits import check_encodable, same_text
from horen.errors import ConfigError, EditError, ModelError
from horen.model.batching import batches
from horen.model.contexts import Contexts, greedy
from horen.model.padding import left_padded

#: With role and content each; the content is a text, or a list of parts that are texts.
Messages = Sequence[Mapping[str, Any]]
#: Opens a context around a call of the model's ``generate``, given the places of the rows that are fed to it.
Watching = Callable[[Sequence[int]], AbstractContextManager[None]]

_BATCH = 32
# What the editor itself tells a chat template.
_TOLD = frozenset({"conversation", "tools", "tokenize", "add_generation_prompt", "continue_final_message"})
_TOLD |= {"return_dict", "return_tensors", "return_assistant_tokens_mask", "padding", "truncation", "max_length"}


class Asked(Protocol):
    """A model that can be asked, and how texts become its token ids."""

    @property
    def model(self) -> PreTrainedModel:
        """The model."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its own."""

    @property
    def contexts(self) -> Contexts:
        """What renders plain prompts and conversations."""


def budget(given: int | None, options: Mapping[str, Any], usual: int) -> int:
    """Return how many new tokens an answer may have: as ``given``, as a generation_config says, or the usual.

    Raises:
        EditError: for an option that would ask for something else than one text an answer.
    """
    config = options.get("generation_config")
    several = options.get("num_return_sequences") or getattr(config, "num_return_sequences", None) or 1
    if several != 1:
        raise EditError(
            f"num_return_sequences={several!r} asks for several answers to a prompt, and there is one text for each: "
            "omit it, or call model.generate, which applies the edits too."
        )
    if given is not None:
        return given
    return getattr(config, "max_new_tokens", None) or usual


def conversation(asked: Asked, messages: Messages, template: Mapping[str, Any], *, room: int) -> list[int]:
    """Return token ids of a conversation of :func:`in_words` up to where the next answer begins.

    Raises:
        EditError: for one that leaves no ``room`` for so many tokens.
        ModelError: when the tokenizer has no chat template.
    """
    row = _rendered(asked, messages, template)
    _check_room(asked, str(messages[-1]["content"]), row, room)
    return row


def in_words(messages: Messages) -> list[dict[str, Any]]:
    """Return a conversation whose contents are texts, also where they were given in parts.

    Raises:
        EditError: for an empty conversation or message, or one that holds something else than text.
    """
    if not messages:
        raise EditError("The conversation is empty: give at least one message with role and content.")
    found = []
    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise EditError(f"The message {message!r} has no role and content: write {{'role': …, 'content': …}}.")
        text = _text_of(message)
        # An answer that calls tools need not say anything.
        if not text.strip() and not message.get("tool_calls"):
            raise EditError(f"The message {message!r} is empty: write a content of at least one word.")
        check_encodable(text, "message")
        found.append({**message, "content": text})
    return found


def question_of(messages: Messages) -> str:
    """Return the last user message of a conversation of :func:`in_words`; of one without any, the last message."""
    asked = [message for message in messages if message["role"] == "user"] or messages
    return str(asked[-1]["content"])


def template_of(tools: Sequence[Any] | None, template: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a chat template is told beside the messages.

    Raises:
        ConfigError: for an option that the editor itself decides, or what is no mapping.
    """
    if template is not None and not isinstance(template, Mapping):
        raise ConfigError(
            f"template is {type(template).__name__} ({template!r}): give a dictionary of what the model's chat "
            "template knows, such as {'enable_thinking': False}."
        )
    for name in template or {}:
        if name in _TOLD:
            raise ConfigError(
                f"{name!r} is no option of the chat template but the editor's own: leave it out of template"
                f"{', and give tools by themselves' if name == 'tools' else ''}."
            )
    return {**({} if tools is None else {"tools": list(tools)}), **(template or {})}


def _text_of(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if not isinstance(content, list | tuple):
        return content if isinstance(content, str) else ""
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else None
            raise EditError(
                f"The message of {message['role']!r} has a part that is no text ({kind or part!r}): give each part as "
                "{'type': 'text', 'text': …}, and leave out images and sounds, which no edit reads."
            )
    return "".join(part["text"] for part in content)


def texts_of(given: str | Sequence[str]) -> Sequence[str]:
    """Return one text or several as a sequence.

    Raises:
        EditError: for anything else.
    """
    if not isinstance(given, str | Sequence):
        raise EditError(f"Prompts must be text or a list of texts, not {type(given).__name__} ({given!r}).")
    return [given] if isinstance(given, str) else given


def encode(asked: Asked, text: str, *, chat: bool, room: int) -> list[int]:
    """Return token ids of a plain prompt or, with ``chat``, of a single user message.

    Raises:
        EditError: for an empty prompt, or one that leaves no ``room`` for so many tokens in the model's context.
        ModelError: with ``chat``, when the tokenizer has no chat template.
    """
    if not isinstance(text, str):
        raise EditError(f"A prompt must be text, not {type(text).__name__} ({text!r}).")
    if not same_text(text):
        raise EditError("The prompt is empty: write at least one word.")
    check_encodable(text, "prompt")
    if not asked.contexts.says_something(asked.contexts.plain(text)):
        raise EditError(f"The prompt {text!r} encodes to no token: write it with characters that the tokenizer knows.")
    ids = _rendered(asked, [{"role": "user", "content": text}]) if chat else asked.contexts.plain(text)
    _check_room(asked, text, ids, room)
    return ids


def _rendered(asked: Asked, messages: Messages, template: Mapping[str, Any] | None = None) -> list[int]:
    if not asked.contexts.has_chat:
        raise ModelError("This model's tokenizer has no chat template: ask it in plain text (generate) instead.")
    return asked.contexts.chat([dict(message) for message in messages], template)


def _check_room(asked: Asked, text: str, ids: Sequence[int], room: int) -> None:
    limit = asked.contexts.limit
    if limit is not None and len(ids) + room > limit:
        shown = text if len(text) <= 60 else text[:57] + "…"
        raise EditError(
            f"The prompt {shown!r} has {len(ids)} tokens and {room} more are asked for, but the model's context holds "
            f"{limit}: shorten it, or ask for fewer new tokens."
        )


def answers(
    asked: Asked,
    rows: Sequence[Sequence[int]],
    max_new_tokens: int,
    options: Mapping[str, Any],
    watching: Watching | None = None,
) -> list[str]:
    """Return continuations of rows of token ids by ``model.generate``, in their order and without outer white space.

    Args:
        asked: what answers.
        rows: token ids.
        max_new_tokens: budget of each.
        options: passed to ``model.generate``.
        watching: a context for each call of that, given the places of its rows; None for none.

    Raises:
        EditError: when no token is asked for.
    """
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise EditError(f"max_new_tokens={max_new_tokens!r} is not valid: ask for at least one new token.")
    model: Any = asked.model
    tokenizer = asked.tokenizer
    settings = {**greedy(asked.contexts.ends, tokenizer, max_new_tokens), **options}
    config = options.get("generation_config")
    for name in ("do_sample", "eos_token_id", "pad_token_id"):  # what a configuration leaves open is as ever
        if name not in options and getattr(config, name, None) is not None:
            del settings[name]
    found = [""] * len(rows)
    for batch in batches(rows, _BATCH):
        ids, mask, _ = left_padded([rows[i] for i in batch], model)
        watched = nullcontext() if watching is None else watching(batch)
        with watched, torch.no_grad():  # in inference mode some quantized weights cannot be read
            produced: Any = model.generate(input_ids=ids, attention_mask=mask, **settings)
        sequences = produced if isinstance(produced, Tensor) else produced.sequences
        for i, row in zip(batch, sequences, strict=True):
            new = row[ids.shape[1] :]
            found[i] = str(tokenizer.decode(new, skip_special_tokens=True)).strip()
    return found
