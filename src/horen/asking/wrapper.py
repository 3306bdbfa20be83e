"""What can be asked of a wrapped model and of the edits on it; nothing here changes either."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, overload

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.asking import doctor, plots
from horen.asking.diagnosis import Diagnosis
from horen.asking.explain import Routes
from horen.asking.generate import Messages, budget, in_words, question_of, template_of, texts_of
from horen.asking.recall import converse, explain, generate, rows
from horen.config import HorenConfig
from horen.edits import Answer, EditRecord, Explanation, Progress
from horen.session import Session
from horen.store.operations import Operation


class Wrapped:
    """A model that answers with the edits of a codebook; :class:`horen.Editor` makes one and writes edits.

    Args:
        session: what is wrapped, and how.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        # Changes and saves take turns: whoever holds it may do several. Those who ask never need it.
        self._turn = threading.RLock()
        self._askers = session.askers

    @property
    def model(self) -> PreTrainedModel:
        """The wrapped transformers model."""
        return self._session.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._session.tokenizer

    @property
    def config(self) -> HorenConfig:
        """The settings."""
        return self._session.config

    def edits(self) -> list[EditRecord]:
        """Return the active edits by id."""
        return self._session.history.active()

    @property
    def edit_count(self) -> int:
        """How many edits are active."""
        return len(self._session.history)

    @property
    def operation_count(self) -> int:
        """How many operations :meth:`history` has."""
        return self._session.history.count

    def get(self, number: int) -> EditRecord:
        """Return the active edit of an id.

        Raises:
            EditNotFoundError: when there is none.
        """
        return self._session.history.get(number)

    def history(self) -> tuple[Operation, ...]:
        """Return every operation since the codebook was new, oldest first, undone ones and undos included."""
        return self._session.history.operations

    @property
    def stored_bytes(self) -> int:
        """Bytes that the codebook takes in memory; removed and superseded edits, which undo can wake, included."""
        return self._session.codebook().nbytes if self.operation_count else 0

    @overload
    def generate(
        self,
        prompts: str,
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        recall: str | None = None,
        return_routes: Literal[False] = False,
        **options: Any,
    ) -> str: ...
    @overload
    def generate(
        self,
        prompts: list[str] | tuple[str, ...],
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        recall: str | None = None,
        return_routes: Literal[False] = False,
        **options: Any,
    ) -> list[str]: ...
    @overload
    def generate(
        self,
        prompts: str,
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        recall: str | None = None,
        return_routes: Literal[True],
        **options: Any,
    ) -> Answer: ...
    @overload
    def generate(
        self,
        prompts: list[str] | tuple[str, ...],
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        recall: str | None = None,
        return_routes: Literal[True],
        **options: Any,
    ) -> list[Answer]: ...
    @overload
    def generate(
        self,
        prompts: str | list[str] | tuple[str, ...],
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        recall: str | None = None,
        return_routes: bool,
        **options: Any,
    ) -> str | list[str] | Answer | list[Answer]: ...
    def generate(
        self,
        prompts: str | list[str] | tuple[str, ...],
        max_new_tokens: int | None = None,
        *,
        chat: bool = False,
        recall: str | None = None,
        return_routes: bool = False,
        **options: Any,
    ) -> str | list[str] | Answer | list[Answer]:
        """Continue plain texts, greedily unless ``options`` say otherwise.

        Args:
            prompts: one text, or several that are run in padded batches.
            max_new_tokens: budget of an answer, which ends earlier at its natural end; None for that of a
                ``generation_config`` among the options, else 24.
            chat: ask each text as a user message through the model's chat template.
            recall: "related" or "off" in the place of the setting ``recall``; None goes by that. Texts that recall
                facts are run apart from the others, whose answers are bit for bit those of a call with them alone.
                Recall looks each text up once more than generation does.
            return_routes: give each answer with the route that its prompt took: which edit gave it, if any.
            options: passed to transformers' ``generate``. What a ``generation_config`` leaves open is as without it.

        Returns:
            The new text alone, without surrounding white space: a list for a list, one text for one. With
            ``return_routes`` an :class:`horen.Answer` in the place of each text.

        Raises:
            EditError: for an empty prompt or one that does not fit the model's context, or several answers to a prompt.
            ModelError: with ``chat``, when the tokenizer has no chat template.
            ConfigError: for another ``recall``, or recall where no judge decides.
        """
        texts = texts_of(prompts)
        room = budget(max_new_tokens, options, 24)
        with self._askers.asking():
            self._session.adapter  # noqa: B018 - an unwrapped editor must not answer as if it were wrapped
            routes = Routes.wanted(self._session, texts, return_routes)
            said = generate(
                self._session, texts, chat=chat, max_new_tokens=room, recall=recall, options=options, routes=routes
            )
        answers = said if routes is None else routes.answers(said)
        return answers[0] if isinstance(prompts, str) else answers

    @overload
    def chat(
        self,
        messages: Messages,
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Any] | None = None,
        template: Mapping[str, Any] | None = None,
        recall: str | None = None,
        return_routes: Literal[False] = False,
        **options: Any,
    ) -> str: ...
    @overload
    def chat(
        self,
        messages: Messages,
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Any] | None = None,
        template: Mapping[str, Any] | None = None,
        recall: str | None = None,
        return_routes: Literal[True],
        **options: Any,
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Messages,
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Any] | None = None,
        template: Mapping[str, Any] | None = None,
        recall: str | None = None,
        return_routes: bool,
        **options: Any,
    ) -> str | Answer: ...
    def chat(
        self,
        messages: Messages,
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Any] | None = None,
        template: Mapping[str, Any] | None = None,
        recall: str | None = None,
        return_routes: bool = False,
        **options: Any,
    ) -> str | Answer:
        """Answer a conversation through the model's chat template.

        Args:
            messages: with role and content each, a system message first where one is wanted; of content in parts the
                texts are read. The last one of the user alone is looked up; facts that it recalls go before it for this
                answer, and into no message that is given.
            max_new_tokens: see :meth:`generate`, but 256 where nothing says how many.
            tools: what the model may call, as ``apply_chat_template`` takes them.
            template: what else the model's template knows, such as ``{"enable_thinking": False}``.
            recall: "related" or "off" in the place of the setting.
            return_routes: see :meth:`generate`; the text of the route is the last message of the user.
            options: passed to transformers' ``generate``.

        Raises:
            ModelError: when the tokenizer has no chat template.
            EditError: when the conversation is empty, holds something else than text, or does not fit the model's
                context.
            ConfigError: for another ``recall``, recall where no judge decides, or an option of the template that this
                method decides.
        """
        room, told = budget(max_new_tokens, options, 256), template_of(tools, template)
        with self._askers.asking():
            self._session.adapter  # noqa: B018
            messages = in_words(messages)
            routes = Routes.wanted(self._session, [question_of(messages)], return_routes)
            said = converse(self._session, messages, room, template=told, recall=recall, options=options, routes=routes)
        return said if routes is None else routes.answers([said])[0]

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return token ids of plain prompts as :meth:`generate` feeds them, with the facts that they recall.

        For callers that run the model themselves. A row with facts wakes no edit from then on, whatever is fed beside
        it; the last 65,536 of them are remembered. While edits are disabled nothing is recalled.

        Raises:
            EditError: for an empty prompt or one that does not fit the model's context.
        """
        with self._askers.asking():
            return rows(self._session, texts_of(prompts))

    @overload
    def explain(
        self, texts: str, *, chat: bool = False, nearest: int = 5, recall: str | None = None
    ) -> Explanation: ...
    @overload
    def explain(
        self, texts: list[str] | tuple[str, ...], *, chat: bool = False, nearest: int = 5, recall: str | None = None
    ) -> list[Explanation]: ...
    def explain(
        self,
        texts: str | list[str] | tuple[str, ...],
        *,
        chat: bool = False,
        nearest: int = 5,
        recall: str | None = None,
    ) -> Explanation | list[Explanation]:
        """Say which edit a text comes nearest to, and whether it wakes it; one Explanation for one text.

        Args:
            texts: one text or several.
            chat: read them as user messages through the chat template.
            nearest: how many of the nearest edits to tell of; 0 is quickest.
            recall: "related" or "off" in the place of the setting ``recall``; None goes by that. Where it is on, the
                facts that would be put before a text are told too.

        Raises:
            EditError: for an empty text or one that does not fit the model's context.
            ConfigError: for another ``recall``, or recall where no judge decides.
        """
        with self._askers.asking():
            given = texts_of(texts)
            found = explain(self._session, given, chat=chat, nearest=nearest, recall=recall)
        return found[0] if isinstance(texts, str) else found

    def plot(self, text: str, path: str | os.PathLike[str], *, chat: bool = False, nearest: int = 5) -> Explanation:
        """Draw a text among the edits around it into a .png or .svg file, and explain it.

        Keys stand at their true angle from the query as it ended (:func:`horen.memory.azimuthal`), with the way it came
        and the edits' scores. The arguments are those of :meth:`explain`.

        Raises:
            ModelError: when matplotlib (extra ``bench``) is not installed.
            DataError: when the file cannot be written, or has another suffix.
            EditError: also when no edit is stored.
        """
        with self._askers.asking():
            return plots.plot(self._session, text, Path(path), chat=chat, nearest=nearest)

    def doctor(self, *, chat: bool = True, progress: Progress | None = None) -> Diagnosis:
        """Route every stored prompt and rephrase anew, to find edits that would misroute now and what to do about them.

        Args:
            chat: read each of them as a user message too, where the tokenizer has a chat template.
            progress: called with (readings done, readings to do).
        """
        with self._turn:
            return doctor.diagnose(self._session, chat=chat, progress=progress)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let the model be the untouched one within the block, in this thread."""
        with self._session.adapter.disabled():
            yield

    def prompt_end(self, width: int) -> AbstractContextManager[None]:
        """Return a context in which the first ``width`` columns fed to the model are the prompt.

        The rest is an answer. For callers that run ``model(**inputs)`` on a prompt and its answer together, without
        labels.
        """
        return self._session.adapter.boundary(width)
