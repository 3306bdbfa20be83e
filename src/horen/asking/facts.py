"""Telling a model facts in words, before a prompt that is about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from horen.edits import EditRecord
from horen.model.contexts import blank_after

_QUESTION = re.compile(r"[?？؟][\"'”’)\]»」』]*\s*$")
_SENTENCE_END = re.compile(r"[.?!؟।][\"'”’)\]»]*(?=\s)|[。？！][”’」』]*")


@dataclass(frozen=True)
class Fact:
    """An edit in words, on one line."""

    edit_id: int
    text: str


def fitted(tokenizer: PreTrainedTokenizerBase, records: Sequence[EditRecord], budget: int) -> list[Fact]:
    """Return facts of the first records, of so many tokens in all at most.

    What is longer than that by itself ends with the last sentence that fits, or is left out.
    """
    facts: list[Fact] = []

    def fits(*more: Fact) -> bool:
        text = "\n".join(fact.text for fact in more)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= budget

    for record in records:
        fact = _fact(record, record.target)
        if not fits(*facts, fact):
            if fits(fact):
                break  # a less likely one does not take its place
            ends = [match.end() for match in _SENTENCE_END.finditer(record.target.rstrip())]
            shorter = (_fact(record, record.target[:end]) for end in reversed(ends))
            cut = next((short for short in shorter if fits(*facts, short)), None)
            if cut is None:
                continue
            fact = cut
        facts.append(fact)
    return facts


def _fact(record: EditRecord, target: str) -> Fact:
    return Fact(record.id, "New fact: " + " ".join(f"{record.prompt}{blank_after(record.prompt)}{target}".split()))


def in_chat(facts: str, question: str) -> str:
    """Put facts before a user's message, as one message."""
    return f"{facts}\n\n{question}"


def is_question(prompt: str) -> bool:
    """Return whether a text ends with a question mark."""
    return bool(_QUESTION.search(prompt))


def in_plain(facts: str, prompt: str) -> str:
    """Put facts before a plain text.

    A question is marked as one, since many models end at once after it. Others go on.
    """
    if is_question(prompt):
        return f"{facts}\nQuestion: {prompt.strip()}\nAnswer:"
    return f"{facts}\n{prompt}"
