"""Recall: facts that a prompt is about, without asking for one of them, are put before it in words.

A prompt that wakes an edit is answered by that edit's value and recalls nothing. One that is about stored facts is
answered by the model alone, with every edit disabled, from what stands before it: the words of a fact would wake its
edit otherwise. All other prompts are answered as without recall, and in batches of their own, so bit for bit alike.

Recall looks every prompt up once more than generation does anyway: the encoder reads it, and the judge its candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from horen.asking import generate as asking
from horen.asking.facts import fitted, in_chat, in_plain, is_question
from horen.asking.generate import Messages
from horen.config import HorenConfig
from horen.edits import EditRecord, Explanation
from horen.model.batching import batches
from horen.model.prompts import Placed
from horen.model.routed import best
from horen.session import Session

_BATCH = 32
# A fact that does not belong before a prompt does harm. Of held-back prompts 0.82 recall their subject's fact (0.85
# where the chance exceeds a half), and 0.04 of those about a like name (0.13) that name's.
_SURE = 0.7
# Rows that are known to hold facts; the oldest are forgotten.
_MOST_MUTED = 65_536


@dataclass(frozen=True)
class Recalled:
    """A prompt with facts before it: its token ids, and the edits that the facts are of, in their order."""

    row: list[int]
    edits: tuple[int, ...]


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
) -> list[str]:
    """Answers to prompts, from recalled facts where there are some; see :meth:`horen.Editor.generate`."""
    config = _chosen(session, recall)
    if config.recall == "off" or session.adapter.silent:
        return asking.generate(session, prompts, chat=chat, max_new_tokens=max_new_tokens, options=options)
    asked = [_prompt(session, text, chat=chat, room=max_new_tokens) for text in prompts]
    found = _recall(session, asked, config, max_new_tokens)
    plain = [i for i, one in enumerate(found) if one is None]
    # First and by themselves: as in a call with them alone, also where answers are drawn at random.
    answers = asking.answers(session, [asked[i].row for i in plain], max_new_tokens, options)
    said = dict(zip(plain, answers, strict=True))
    told = {i: one.row for i, one in enumerate(found) if one is not None}
    with session.adapter.disabled():
        said |= zip(told, asking.answers(session, list(told.values()), max_new_tokens, options), strict=True)
    return [said[i] for i in range(len(prompts))]


def converse(
    session: Session,
    messages: Messages,
    max_new_tokens: int,
    *,
    template: Mapping[str, Any],
    recall: str | None,
    options: Mapping[str, Any],
) -> str:
    """The next answer of a conversation, with facts before its last user message; see :meth:`horen.Editor.chat`."""
    config = _chosen(session, recall)
    messages = asking.in_words(messages)
    row = asking.conversation(session, messages, template, room=max_new_tokens)
    turns = [number for number, message in enumerate(messages) if message["role"] == "user"]
    if config.recall == "off" or session.adapter.silent or not turns:
        return asking.answers(session, [row], max_new_tokens, options)[0]

    def told(facts: str) -> list[int]:
        given = [dict(message) for message in messages]
        given[turns[-1]]["content"] = in_chat(facts, given[turns[-1]]["content"])
        return session.contexts.chat(given, template)

    (found,) = _recall(session, [_Asked(row, told)], config, max_new_tokens)
    if found is None:
        return asking.answers(session, [row], max_new_tokens, options)[0]
    with session.adapter.disabled():
        return asking.answers(session, [found.row], max_new_tokens, options)[0]


def explained(
    session: Session, explanations: Sequence[Explanation], *, chat: bool, recall: str | None
) -> list[Explanation]:
    """Explanations with what their texts recall; nothing is looked up where recall is off."""
    config = _chosen(session, recall)
    if config.recall == "off":
        return list(explanations)
    found = _recall(session, [_prompt(session, one.text, chat=chat, room=0) for one in explanations], config, 0)
    return [
        one if recalled is None else replace(one, recalled=recalled.edits)
        for one, recalled in zip(explanations, found, strict=True)
    ]


def rows(session: Session, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of plain prompts with what they recall; rows with facts wake nothing; see :meth:`horen.Editor.rows`."""
    asked = [_prompt(session, text, chat=False, room=0) for text in prompts]
    if session.config.recall == "off" or session.adapter.silent:
        return [one.row for one in asked]
    found = _recall(session, asked, session.config, 0)
    muted = session.adapter.muted
    muted |= {tuple(one.row): None for one in found if one is not None}
    for row in list(muted)[: max(len(muted) - _MOST_MUTED, 0)]:
        muted.pop(row, None)  # another thread may have forgotten it too
    return [one.row if recalled is None else recalled.row for one, recalled in zip(asked, found, strict=True)]


def related(session: Session, prompts: Sequence[Sequence[int]]) -> list[list[EditRecord]]:
    """The edits that rows of token ids are about, the likeliest first; none for a row that fires."""
    adapter = session.adapter
    found: list[list[EditRecord]] = [[] for _ in prompts]
    if not adapter.awake:
        return found
    for batch in batches(prompts, _BATCH):
        given = [prompts[i] for i in batch]
        places = [Placed(n, 0, tuple(row), session.reader.read(row, len(row))) for n, row in enumerate(given)]
        spans = [place.prompt.spans for place in places]
        surveys = adapter.surveyed(places, adapter.features(given, spans))
        fired = {r.place.row for r in best(places, [survey.match for survey in surveys]) if r.match.fired}
        starts = accumulate(map(len, spans[:-1]), initial=0)
        for n, (start, own) in enumerate(zip(starts, spans, strict=True)):
            if n in fired:
                continue
            scores: dict[EditRecord, tuple[float, float]] = {}
            for entry, judged, asks in (item for s in surveys[start : start + len(own)] for item in s.around):
                record = session.history.holder(entry)
                if record is not None and (asks == "own" or judged.subject > _SURE):
                    scores[record] = max(scores.get(record, (0.0, 0.0)), (judged.score, judged.subject))
            found[batch[n]] = sorted(scores, key=lambda record: (*(-score for score in scores[record]), record.id))
    return found


def _recall(session: Session, asked: Sequence[_Asked], config: HorenConfig, room: int) -> list[Recalled | None]:
    """What is fed for prompts that recall something, which leaves ``room`` for an answer; None for the others."""
    limit = session.contexts.limit
    found: list[Recalled | None] = []
    for one, records in zip(asked, related(session, [one.row for one in asked]), strict=True):
        facts = fitted(session.tokenizer, records, config.recall_tokens)
        row = one.row
        while facts:
            row = one.told("\n".join(fact.text for fact in facts))
            if limit is None or len(row) + room <= limit:
                break
            facts.pop()
        found.append(Recalled(row, tuple(fact.edit_id for fact in facts)) if facts else None)
    return found


def _chosen(session: Session, recall: str | None) -> HorenConfig:
    """The settings with another ``recall`` where one is given.

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

    return _Asked(asking.encode(session, text, chat=chat, room=room), told)
