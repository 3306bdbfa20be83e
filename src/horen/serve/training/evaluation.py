"""What a draft would do, found out before it is published: its own questions, its neighbours, what is often asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from horen.data import load_bank
from horen.database.records import Query
from horen.database.store import Store
from horen.database.training import Job
from horen.editor import Editor
from horen.edits import Answer, same_text
from horen.verify.asking import right

# How many of the nearest edits are asked, and how many facts of the same subject.
_NEAREST, _OF_SUBJECT = 8, 8
_TOKENS = 24


@dataclass(frozen=True)
class _Question:
    """What is asked before and after.

    Attributes:
        prompt: what a person would ask.
        text: what the model is asked.
        chat: whether through the chat template.
        told: what else is told with the answer.
    """

    prompt: str
    text: str
    chat: bool = False
    told: dict[str, Any] = field(default_factory=dict)


class Evaluation:
    """Asks the same questions before a draft is written and after.

    Args:
        editor: with the published edits, and not the draft.
        store: where facts of the same subject are.
        job: the draft.
    """

    def __init__(self, editor: Editor, store: Store, job: Job) -> None:
        self._editor, self._job, self._version = editor, job, editor.operation_count
        self._chat = bool(getattr(editor.tokenizer, "chat_template", None))
        self._own = list(self._own_questions())
        self._neighbours = list(self._near(store))
        self._prompts = [_Question(text, text, self._chat) for text in dict.fromkeys(job.evaluate or ())]
        self._before = self._ask()

    def found(self, number: int) -> dict[str, Any]:
        """Return what the draft does, once it is written.

        Args:
            number: id that it has in the editor for now.
        """
        after = self._ask()
        told: dict[str, list[dict[str, Any]]] = {}
        groups = {"own": self._own, "neighbours": self._neighbours, "prompts": self._prompts}
        place = 0
        for name, questions in groups.items():
            told[name] = []
            for question in questions:
                told[name].append(self._line(question, self._before[place], after[place], number, own=name == "own"))
                place += 1
        others = [*told["neighbours"], *told["prompts"]]
        summary = {
            "own_right": sum(line["correct"] for line in told["own"]),
            "own_asked": len(told["own"]),
            "disturbed": sum(line["fires"] or line["changed"] for line in others),
            "asked": len(others),
        }
        return {"version": self._version, **told, "summary": summary}

    def _line(self, question: _Question, before: Answer, after: Answer, number: int, *, own: bool) -> dict[str, Any]:
        fired = after.route.edit_id if after.route.fired else None
        line: dict[str, Any] = {
            "prompt": question.prompt,
            **question.told,
            "answer": after.text,
            "before": before.text,
            "fires": fired == number,
            "score": after.route.score,
        }
        if own:
            return line | {"correct": right(after.text, self._job.edit.target, cut=True)}
        return line | {"changed": after.text != before.text}

    def _own_questions(self) -> Iterator[_Question]:
        edit = self._job.edit
        other = load_bank().paragraphs[0]
        for number, text in enumerate((edit.prompt, *edit.rephrases)):
            kind = "rephrase" if number else "prompt"
            yield _Question(text, text, False, {"kind": kind, "context": "plain"})
            yield _Question(text, f"{other}\n\n{text}", False, {"kind": kind, "context": "after text"})
            if self._chat:
                yield _Question(text, text, True, {"kind": kind, "context": "chat"})

    def _near(self, store: Store) -> Iterator[_Question]:
        own = {same_text(text) for text in (self._job.edit.prompt, *self._job.edit.rephrases)}
        found = self._editor.explain(self._job.edit.prompt, nearest=_NEAREST) if self._editor.edit_count else None
        seen = set(self._job.replaces)
        for near in found.nearest if found else ():
            if near.edit_id not in seen and same_text(near.prompt) not in own:
                seen.add(near.edit_id)
                yield _Question(near.prompt, near.prompt, False, {"edit": near.edit_id, "why": "near"})
        if self._job.subject is None:
            return
        of_subject = store.edits.list(Query(subject=self._job.subject, state="published"), limit=_OF_SUBJECT)
        for stored in of_subject.items:
            if stored.id not in seen and same_text(stored.prompt) not in own:
                yield _Question(stored.prompt, stored.prompt, False, {"edit": stored.id, "why": "subject"})

    def _ask(self) -> list[Answer]:
        questions = [*self._own, *self._neighbours, *self._prompts]
        found: dict[int, Answer] = {}
        for chat in (False, True):
            some = [number for number, question in enumerate(questions) if question.chat is chat]
            texts = [questions[number].text for number in some]
            if texts:
                answers = self._editor.generate(texts, _budget(self._editor, self._job), chat=chat, return_routes=True)
                found |= dict(zip(some, answers, strict=True))
        return [found[number] for number in range(len(questions))]


def _budget(editor: Editor, job: Job) -> int:
    return max(_TOKENS, len(editor.tokenizer(f" {job.edit.target}")["input_ids"]) + 2)
