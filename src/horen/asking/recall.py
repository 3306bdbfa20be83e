"""Recall: facts that a prompt is about, without asking for one of them, are put before it in words.

A prompt that wakes an edit is answered by that edit's value and recalls nothing. One that is about stored facts is
answered by the model alone, with every edit disabled, from what stands before it: the words of a fact would wake its
edit otherwise. All other prompts are answered as without recall, and in batches of their own, so bit for bit alike.

Recall looks every prompt up once more than generation does anyway: the encoder reads it, and the judge its candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from horen.asking.explain import Routes, explaining, unrouted
from horen.asking.facts import fitted, in_chat, in_plain, is_question
from horen.asking.generate import Messages, answers, conversation, encode
from horen.asking.routes import Tell, looked_up
from horen.config import HorenConfig
from horen.edits import EditRecord, Explanation
from horen.model.routed import Routed
from horen.session import Session

T = TypeVar("T")
# A fact that does not belong before a prompt does harm. Of held-back prompts 0.82 recall their subject's fact (0.85
# where the chance exceeds a half), and 0.04 of those about a like name (0.13) that name's.
_SURE = 0.7
# Rows that are known to hold facts; the oldest are forgotten.
_MOST_MUTED = 65_536


@dataclass(frozen=True)
class Recalled(Generic[T]):
    """What a prompt recalls.

    Attributes:
        row: token ids of the prompt with facts before it; None where there are none.
        edits: that the facts are of, in their order.
        told: what is told of where the prompt goes; None while nothing is stored, or where nothing was to be told.
    """

    row: list[int] | None
    edits: tuple[int, ...]
    told: T | None


@dataclass(frozen=True)
class _Asked:
    """A prompt: its token ids as it is, and what makes token ids of it and the facts before it."""

    row: list[int]
    told: Callable[[str], list[int]]


def generate(
    session: Session,
    prompts: Sequence[str],
    *,
    chat: bool,
    max_new_tokens: int,
    recall: str | None,
    options: Mapping[str, Any],
    routes: Routes | None = None,
) -> list[str]:
    """Answer prompts, from recalled facts where there are some; see :meth:`horen.Editor.generate`."""
    config = _chosen(session, recall)
    asked = [_prompt(session, text, chat=chat, room=max_new_tokens) for text in prompts]
    return _answers(session, asked, max_new_tokens, config=config, options=options, routes=routes)


def converse(
    session: Session,
    messages: Messages,
    max_new_tokens: int,
    *,
    template: Mapping[str, Any],
    recall: str | None,
    options: Mapping[str, Any],
    routes: Routes | None = None,
) -> str:
    """Return the next answer of a conversation whose contents are texts; see :meth:`horen.Editor.chat`.

    Facts go before its last user message.
    """
    config = _chosen(session, recall)
    row = conversation(session, messages, template, room=max_new_tokens)
    turns = [number for number, message in enumerate(messages) if message["role"] == "user"]
    if not turns:
        config = config.replace(recall="off")

    def told(facts: str) -> list[int]:
        given = [dict(message) for message in messages]
        given[turns[-1]]["content"] = in_chat(facts, given[turns[-1]]["content"])
        return session.contexts.chat(given, template)

    return _answers(session, [_Asked(row, told)], max_new_tokens, config=config, options=options, routes=routes)[0]


def _answers(
    session: Session,
    asked: Sequence[_Asked],
    room: int,
    *,
    config: HorenConfig,
    options: Mapping[str, Any],
    routes: Routes | None,
) -> list[str]:
    """Answer prompts, of which those that recall something are asked without edits."""
    watching = None if routes is None else routes.watching
    if config.recall == "off" or session.adapter.silent:
        return answers(session, [one.row for one in asked], room, options, watching)
    found = _recall(session, asked, config, room, None if routes is None else routes.tell_of_others)
    plain = [i for i, one in enumerate(found) if one.row is None]
    told = {i: one.row for i, one in enumerate(found) if one.row is not None}

    def of_plain(batch: Sequence[int]) -> AbstractContextManager[None]:
        return nullcontext() if watching is None else watching([plain[n] for n in batch])

    # First and by themselves: as in a call with them alone, also where answers are drawn at random.
    unaided = answers(session, [asked[i].row for i in plain], room, options, of_plain)
    said = dict(zip(plain, unaided, strict=True))
    with session.adapter.disabled():
        said |= zip(told, answers(session, list(told.values()), room, options), strict=True)
    if routes is not None:
        routes.found |= {i: replace(one.told, recalled=found[i].edits) for i in told if (one := found[i]).told}
    return [said[i] for i in range(len(asked))]


def told(session: Session, texts: Sequence[str], tell: Tell[T], *, chat: bool, recall: str | None) -> list[Recalled[T]]:
    """Return what is told of texts by their numbers, and the facts that they recall; each text is looked up once."""
    config = _chosen(session, recall)
    return _recall(session, [_prompt(session, text, chat=chat, room=0) for text in texts], config, 0, tell)


def explain(
    session: Session, texts: Sequence[str], *, chat: bool, nearest: int, recall: str | None
) -> list[Explanation]:
    """Explain where texts are routed and what they recall; see :meth:`horen.Editor.explain`."""
    found = told(session, texts, explaining(session, texts, nearest), chat=chat, recall=recall)
    return [
        unrouted(session, text) if one.told is None else replace(one.told, recalled=one.edits)
        for text, one in zip(texts, found, strict=True)
    ]


def rows(session: Session, prompts: Sequence[str]) -> list[list[int]]:
    """Return token ids of plain prompts with what they recall; see :meth:`horen.Editor.rows`.

    Rows with facts wake nothing.
    """
    asked = [_prompt(session, text, chat=False, room=0) for text in prompts]
    if session.config.recall == "off" or session.adapter.silent:
        return [one.row for one in asked]
    found: list[Recalled[None]] = _recall(session, asked, session.config, 0, None)
    muted = session.adapter.muted
    muted |= {tuple(one.row): None for one in found if one.row is not None}
    for row in list(muted)[: max(len(muted) - _MOST_MUTED, 0)]:
        muted.pop(row, None)  # another thread may have forgotten it too
    return [one.row if recalled.row is None else recalled.row for one, recalled in zip(asked, found, strict=True)]


def _recall(
    session: Session, asked: Sequence[_Asked], config: HorenConfig, room: int, tell: Tell[T] | None
) -> list[Recalled[T]]:
    """Return what is told of prompts and, with ``room`` for an answer, what is fed for those that recall something."""
    limit, recalls = session.contexts.limit, config.recall != "off"

    def both(routed: Mapping[int, Routed]) -> dict[int, tuple[T | None, list[EditRecord]]]:
        known = {} if tell is None else tell(routed)
        return {n: (known.get(n), _related(session, one) if recalls else []) for n, one in routed.items()}

    found: list[Recalled[T]] = []
    seen = looked_up(session, [one.row for one in asked], both, surveys=recalls)
    for one, (known, records) in zip(asked, (item or (None, []) for item in seen), strict=True):
        facts = fitted(session.tokenizer, records, config.recall_tokens)
        row = one.row
        while facts:
            row = one.told("\n".join(fact.text for fact in facts))
            if limit is None or len(row) + room <= limit:
                break
            facts.pop()
        found.append(Recalled(row if facts else None, tuple(fact.edit_id for fact in facts), known))
    return found


def _related(session: Session, routed: Routed) -> list[EditRecord]:
    """Return the edits that a prompt is about, the likeliest first; none for one that fires."""
    if routed.match.fired:
        return []
    scores: dict[EditRecord, tuple[float, float]] = {}
    for entry, judged, asks in routed.around:
        record = session.history.holder(entry)
        if record is not None and (asks == "own" or judged.subject > _SURE):
            scores[record] = max(scores.get(record, (0.0, 0.0)), (judged.score, judged.subject))
    return sorted(scores, key=lambda record: (*(-score for score in scores[record]), record.id))


def _chosen(session: Session, recall: str | None) -> HorenConfig:
    """Return the settings with another ``recall`` where one is given.

    Raises:
        ConfigError: for one that is none, or that asks for a judge where there is none.
    """
    return session.config if recall is None else session.config.replace(recall=recall)


def _prompt(session: Session, text: str, *, chat: bool, room: int) -> _Asked:
    def told(facts: str) -> list[int]:
        # Many models that were tuned on chat end at once after a plain question, whatever stands before it.
        if chat or (session.contexts.has_chat and is_question(text)):
            return session.contexts.chat([{"role": "user", "content": in_chat(facts, text)}])
        return session.contexts.plain(in_plain(facts, text))

    return _Asked(encode(session, text, chat=chat, room=room), told)
