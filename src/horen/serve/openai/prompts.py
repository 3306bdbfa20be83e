"""Prompts: texts and conversations as the model's token ids."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from horen import __version__
from horen.serve.engines.interface import Engine
from horen.serve.openai.requests import AnyMessage, AnyPrompt
from horen.serve.openai.telling import wrong
from horen.serve.refusals import RefusalError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Prompt:
    """What an engine is asked, and what the list of recent prompts says of it.

    Attributes:
        ids: token ids.
        text: the last that a user said, or the text that is to be continued.
    """

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Served:
    """A model that can be asked.

    Attributes:
        engine: that answers.
        tokenizer: of the same model.
        fingerprint: differs where the same request may be answered otherwise; told with each answer.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str = f"horen-{__version__}"
    # A tokenizer is changed while it reads, so one thread has it; those of the application are left to others.
    _reader: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="tokenizer"), repr=False, compare=False
    )

    async def conversation(self, messages: Sequence[AnyMessage]) -> Prompt:
        """Return a conversation up to where the answer begins.

        Raises:
            RefusalError: for one that the model's chat template does not take, or that gives no token.
        """
        turns = [
            {"role": "system" if one.role == "developer" else one.role, "content": one.text}
            | ({} if one.name is None else {"name": one.name})
            for one in messages
        ]
        said = [turn["content"] for turn in turns if turn["role"] == "user"]
        ids = await self._in_turn(self._rendered, turns)
        return Prompt(self._checked(ids, "messages"), said[-1] if said else turns[-1]["content"])

    async def continued(self, prompt: AnyPrompt) -> list[Prompt]:
        """Return texts that are to be continued, each of them a prompt.

        Raises:
            RefusalError: for one that has no token, or ids that are none of the model's.
        """
        return [await self._in_turn(self._read, one) for one in separate(prompt)]

    async def _in_turn(self, work: Callable[[T], R], given: T) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work, given)

    def _rendered(self, turns: list[dict[str, str]]) -> list[int]:
        if not self.tokenizer.chat_template:
            raise wrong("messages", f"{self.engine.model} has no chat template: ask /v1/completions.")
        try:
            found: Any = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
        except TemplateError as error:
            raise wrong(
                "messages", f"The chat template of {self.engine.model} does not take this conversation: {error}."
            ) from error
        return list(found["input_ids"])

    def _read(self, given: str | list[int]) -> Prompt:
        if isinstance(given, str):
            found: Any = self.tokenizer(given)
            return Prompt(self._checked(found["input_ids"], "prompt"), given)
        most = len(self.tokenizer)
        outside = next((one for one in given if one >= most), None)
        if outside is not None:
            raise wrong("prompt", f"{outside} is no token id of {self.engine.model}, whose ids are below {most}.")
        return Prompt(tuple(given), str(self.tokenizer.decode(given)))

    def _checked(self, ids: Sequence[int], param: str) -> tuple[int, ...]:
        if not ids:
            raise wrong(param, f"{param} gives no token: write something.")
        return tuple(ids)

    def check_room(self, prompt: Prompt, most: int | None, param: str) -> None:
        """Raise RefusalError for a prompt that leaves no room for its answer.

        Args:
            prompt: that is asked.
            most: tokens that the answer may have; None for as many as there is room for.
            param: the field that the prompt is in.
        """
        room = self.engine.context - len(prompt.ids)
        if room >= (most or 1):
            return
        asked = f" and {most} are asked for in the answer" if room > 0 else ""
        raise RefusalError(
            400,
            f"{self.engine.model} holds {self.engine.context} tokens at most: {param} has {len(prompt.ids)}{asked}. "
            f"Shorten {param}{', or ask for fewer' if asked else ''}.",
            param=param,
            code="context_length_exceeded",
        )


def separate(prompt: AnyPrompt) -> list[str | list[int]]:
    """Return the texts or lists of ids that a request has, each of them a prompt."""
    if isinstance(prompt, str):
        return [prompt]
    found: list[str | list[int]] = [one for one in prompt if not isinstance(one, int)]
    return found or [[one for one in prompt if isinstance(one, int)]]
