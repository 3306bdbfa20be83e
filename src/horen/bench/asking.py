"""Asking everything about the edits of a checkpoint; one row for each question, and scores are made of rows alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from horen.bench import scorer
from horen.bench.metrics.answers import containment, exact_match, token_f1
from horen.bench.metrics.overlap import Similarity, overlap
from horen.bench.metrics.tokens import identical, kl_divergence, token_agreement
from horen.bench.records import Record
from horen.bench.scorer import Answer, Forced, Moved
from horen.editors.interface import Method
from horen.edits import same_text

PROMPT, REPHRASE = "prompt", "rephrase"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stored:
    """A record whose edit is in force at a checkpoint.

    Attributes:
        record: of the data set.
        position: its place in the stream, from 0.
    """

    record: Record
    position: int


@dataclass(frozen=True)
class Row:
    """One question at a checkpoint and all that was measured on it.

    Attributes:
        number: of the record it belongs to.
        position: of the record's edit in the stream, from 0.
        kind: ``prompt``, ``rephrase``, a kind of negative or a kind of portability question.
        text: what was asked.
        answers: what counts as right; for a negative the untouched model's answer.
        answer: what the model said, as it was decoded.
        cut: whether the budget ended the answer.
        scores: by name, each in [0, 1] unless it is a divergence in nats.
        nearest: the edit prompt to which a routing method sends the text.
        score: how near that is.
        fired: whether the edit was applied; None for a method that routes nothing.
    """

    number: int
    position: int
    kind: str
    text: str
    answers: tuple[str, ...]
    answer: str
    cut: bool
    scores: dict[str, float] = field(default_factory=dict)
    nearest: str | None = None
    score: float | None = None
    fired: bool | None = None

    @property
    def routed(self) -> bool:
        """Whether the nearest edit is the record's own; meant for prompts and rephrases."""
        return bool(self.scores.get("routed"))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Make one of what :meth:`to_dict` gave."""
        known = {item.name: document[item.name] for item in fields(cls)}
        return cls(**(known | {"answers": tuple(document["answers"])}))


@dataclass(frozen=True)
class Asked:
    """What is asked of a record: its kind, its text and the answers that count as right."""

    stored: Stored
    kind: str
    text: str
    answers: tuple[str, ...]


def questions(stored: Sequence[Stored], edited: Collection[str]) -> list[Asked]:
    """Return everything that is asked about edits, in the records' order.

    A negative that was itself edited, by another record, is none and is left out; ``edited`` holds all edit prompts as
    :func:`horen.edits.same_text` has them.
    """
    asked = []
    for item in stored:
        record, right = item.record, (item.record.target,)
        asked.append(Asked(item, PROMPT, record.prompt, right))
        asked += [Asked(item, REPHRASE, text, right) for text in record.rephrases]
        asked += [
            Asked(item, negative.kind, negative.text, ())
            for negative in record.negatives
            if same_text(negative.text) not in edited
        ]
        asked += [Asked(item, question.kind, question.text, question.answers) for question in record.questions]
    return asked


@dataclass(frozen=True)
class Asker:
    """Asks a method.

    Attributes:
        method: what is asked.
        budget: most new tokens of an answer to an edit's prompt or rephrase.
        detail_budget: most new tokens of an answer to anything else.
        unstructured: whether targets are paragraphs.
        base: the untouched model's answers to negatives, by text; what is missing is asked and added.
        similarity: of pairs of long texts, for unstructured targets; None leaves the score out.
    """

    method: Method
    budget: int
    detail_budget: int
    unstructured: bool
    base: dict[str, Answer]
    similarity: Similarity | None = None

    def rows(self, stored: Sequence[Stored], edited: Collection[str], progress: Progress) -> list[Row]:
        """Return one row for each of :func:`questions` about the stored edits."""
        asked = questions(stored, edited)
        negatives = list(dict.fromkeys(item.text for item in asked if not item.answers))
        moved = self._moved(negatives, progress)
        edited_ones = [item for item in asked if item.kind in {PROMPT, REPHRASE}]
        said, forced = self._said([item for item in asked if item.answers], edited_ones, progress)
        alike = self._alike(edited_ones, said)
        texts = list(dict.fromkeys(item.text for item in asked))
        routes = self.method.routes(texts)
        routed = dict(zip(texts, routes, strict=True)) if routes is not None else {}
        rows = []
        for item in asked:
            route = routed.get(item.text)
            if item.answers:
                answer = said[item.text]
                pair = item.text, item.answers[0]
                scores = self._right(item, answer) | forced.get(pair, {}) | alike.get(pair, {})
            else:
                found = moved[item.text]
                answer = found.answer
                scores = {"identical": float(identical(answer.tokens, found.base.tokens)), "kl": found.divergence}
            if route is not None and item.answers:
                own = route.prompt is not None and same_text(route.prompt) == same_text(item.stored.record.prompt)
                scores["routed"] = float(own)
            rows.append(
                Row(
                    number=item.stored.record.number,
                    position=item.stored.position,
                    kind=item.kind,
                    text=item.text,
                    answers=item.answers or (moved[item.text].base.text,),
                    answer=answer.raw,
                    cut=answer.cut,
                    scores=scores,
                    nearest=None if route is None else route.prompt,
                    score=None if route is None or route.prompt is None else route.score,
                    fired=None if route is None else route.fired,
                )
            )
        return rows

    def _moved(self, texts: Sequence[str], progress: Progress) -> dict[str, Moved]:
        count = _Count("asking what must not change", len(texts), progress)
        found = scorer.moved(
            self.method,
            texts,
            kl_divergence,
            budget=self.detail_budget,
            known=self.base,
            batch=_rows_together(self.detail_budget),
            progress=count,
        )
        self.base.update({text: one.base for text, one in zip(texts, found, strict=True)})
        return dict(zip(texts, found, strict=True))

    def _said(
        self, asked: Sequence[Asked], edited: Sequence[Asked], progress: Progress
    ) -> tuple[dict[str, Answer], dict[tuple[str, str], dict[str, float]]]:
        """Answers by text, and teacher-forced scores by text and target."""
        pairs = list(dict.fromkeys((item.text, item.answers[0]) for item in edited))
        # Of a text with several targets the first is scored as it is asked.
        firsts = dict(reversed(pairs))
        rest = [(text, target) for text, target in pairs if firsts[text] != target]
        targets = {text: scorer.target_ids(self.method, target) for text, target in firsts.items()}
        texts = list(dict.fromkeys(item.text for item in asked))
        count = _Count("asking", len(texts), progress)
        said: dict[str, Answer] = {}
        scored: dict[str, Forced] = {}
        for budget, group in (
            (self.budget, [text for text in texts if text in firsts]),
            (self.detail_budget, [text for text in texts if text not in firsts]),
        ):
            answers, found_here = scorer.answers(
                self.method, group, budget=budget, targets=targets, batch=_rows_together(budget), progress=count
            )
            said.update(zip(group, answers, strict=True))
            scored |= found_here
        forced = {(text, target): scored[text] for text, target in firsts.items()}
        ids = [scorer.target_ids(self.method, target) for _, target in rest]
        found = scorer.forced_rows(self.method, self.method.rows([text for text, _ in rest]), ids)
        forced |= dict(zip(rest, found, strict=True))
        named = {
            pair: {"forced": sum(one.greedy) / len(one.greedy), "nll": -one.log_likelihood / len(one.greedy)}
            for pair, one in forced.items()
        }
        return said, named

    def _right(self, item: Asked, answer: Answer) -> dict[str, float]:
        scores = {
            "exact": exact_match(answer.text, item.answers),
            "contains": containment(answer.text, item.answers),
            "f1": token_f1(answer.text, item.answers),
        }
        if item.kind in {PROMPT, REPHRASE}:
            wanted = scorer.target_ids(self.method, item.answers[0])
            scores["agreement"] = token_agreement(answer.tokens, wanted)
            if self.unstructured:
                scores |= asdict(overlap(answer.text, item.answers[0]))
        return scores

    def _alike(self, asked: Sequence[Asked], said: Mapping[str, Answer]) -> dict[tuple[str, str], dict[str, float]]:
        if self.similarity is None:
            return {}
        pairs = list(dict.fromkeys((item.text, item.answers[0]) for item in asked))
        found = self.similarity([said[text].text for text, _ in pairs], [target for _, target in pairs])
        return {pair: {"similarity": value} for pair, value in zip(pairs, found, strict=True)}


def _rows_together(budget: int) -> int:
    """Long answers are asked few at a time: the cache grows with rows and tokens, and is copied at every token."""
    return 64 if budget <= 64 else 8


class _Count:
    """Adds up what a scorer says is done."""

    def __init__(self, phase: str, total: int, progress: Progress) -> None:
        self._phase, self._total, self._progress, self._done = phase, total, progress, 0
        progress(phase, 0, total)

    def __call__(self, more: int) -> None:
        self._done += more
        self._progress(self._phase, self._done, self._total)
