"""Which edits prompts wake where a judge decides: candidates by their keys, then what is asked and of whom."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from horen.memory import STEPPED, Candidates, Codebook, Gate, Match
from horen.model.routed import Around
from horen.scope.judging import Asks
from horen.scope.reader import Judged, Scope

#: Candidates that are looked at for each reading of a prompt.
CANDIDATES = 6

Wording = Callable[[int], str | None]


@dataclass(frozen=True)
class Survey:
    """What a judge makes of a text and the entries around it.

    Attributes:
        match: the entry that the text most likely asks for; None where there is none.
        around: entries with what is thought of each, and what the text asks beside it.
    """

    match: Match | None
    around: Around


class ScopedGate:
    """A gate whose score is a judge's.

    Args:
        scope: reads and judges.
        gate: retrieval's settings, and the threshold that a score must exceed.
        wording: the prompt or rephrase of an entry; None for one that no edit has.
    """

    def __init__(self, scope: Scope, gate: Gate, wording: Wording) -> None:
        self._scope, self._gate, self._wording = scope, gate, wording

    def matches(
        self, codebook: Codebook, queries: Tensor, texts: Sequence[str], *, above: float | None = None
    ) -> list[Match | None]:
        """Return the entry that each of [B, d_k] queries, read of B texts, most likely asks for.

        It is None where there is none.

        Args:
            codebook: what is stored.
            queries: what was read of the texts.
            texts: what is asked.
            above: what a score must exceed to be asked for, which is less work: a match whose score does not, and
                runner-ups, may have been judged without a check. None asks for all.
        """
        found = codebook.candidates(queries, self._gate, CANDIDATES)
        if found is None:
            return [None] * len(texts)
        near, value_of = found
        # A margin is one between scores, so it needs the runner-up's own.
        rows = self._checked(near, texts, None if self._gate.margin else above)
        return [self._match(number, row, near, value_of) for number, row in enumerate(rows)]

    def surveyed(self, codebook: Codebook, queries: Tensor, texts: Sequence[str]) -> list[Survey]:
        """Return the same matches, and what is thought of every one of the nearest entries; empty where there are none.

        The candidates of a match are judged as they are there. What lies further off is judged without the pair check,
        so it may be about a text's subject and is never what a text asks for.
        """
        found = codebook.candidates(queries, self._gate, STEPPED)
        if found is None:
            return []
        near, value_of = found
        rows, further = self._checked(near, texts), self._named(near, CANDIDATES, STEPPED)
        told = self._told(self._scope.unchecked, further, texts, near)
        surveys = []
        for number, (row, more) in enumerate(zip(rows, further, strict=True)):
            seen = [(judged, entry) for judged, _, entry in row]
            seen += [(next(told), entry) for _, entry, _ in more]
            around = tuple((entry, judged, self.asks(judged)) for judged, entry in seen)
            surveys.append(Survey(self._match(number, row, near, value_of), around))
        return surveys

    def judged(self, stored: Sequence[str], asked: str, halves: Tensor) -> list[Judged]:
        """Return what is thought of a text beside n stored wordings, whose keys' halves [n, 2] are given."""
        return self._scope.judged(stored, [asked] * len(stored), halves)

    def asks(self, judged: Judged) -> Asks:
        """Return what a prompt asks: "own", "about" or "other"."""
        return self._scope.judge.verdict(judged.score, judged.subject, self._gate.threshold)

    def _named(self, near: Candidates, first: int, stop: int) -> list[list[tuple[int, int, str]]]:
        """Return for each text place, entry and wording of the candidates from ``first`` on that edits have."""
        return [
            [
                (p, entry, wording)
                for p, entry in enumerate(entries)
                if first <= p < stop and (wording := self._wording(entry))
            ]
            for entries in near.entries.tolist()
        ]

    @property
    def threshold(self) -> float:
        """What a score must exceed to fire."""
        return self._gate.threshold

    def _checked(
        self, near: Candidates, texts: Sequence[str], above: float | None = None
    ) -> list[list[tuple[Judged, int, int]]]:
        """Return for each text what is thought of its first candidates, likeliest first, with places and entries."""
        rows = self._named(near, 0, CANDIDATES)
        of = [number for number, row in enumerate(rows) for _ in row]
        told = self._told(functools.partial(self._scope.judged, of=of, above=above), rows, texts, near)
        return [
            sorted(((next(told), p, entry) for p, entry, _ in row), key=lambda item: -item[0].score) for row in rows
        ]

    def _told(
        self,
        judge: Callable[[Sequence[str], Sequence[str], Tensor], list[Judged]],
        rows: Sequence[Sequence[tuple[int, int, str]]],
        texts: Sequence[str],
        near: Candidates,
    ) -> Iterator[Judged]:
        """Yield what a judge says of the candidates of all texts, in order."""
        numbers = [number for number, row in enumerate(rows) for _ in row]
        halves = near.halves[numbers, [place for row in rows for place, _, _ in row]]
        return iter(judge([wording for row in rows for _, _, wording in row], [texts[i] for i in numbers], halves))

    def _match(
        self, number: int, judged: Sequence[tuple[Judged, int, int]], near: Candidates, value_of: Tensor
    ) -> Match | None:
        """Return what the gate takes of a text's candidates, the likeliest first."""
        if not judged:
            return None
        best, place, entry = judged[0]
        value = int(value_of[entry])
        runner = next((item for item in judged[1:] if int(value_of[item[2]]) != value), None)
        lead = torch.inf if runner is None else best.score - runner[0].score
        return Match(
            entry=entry,
            value=value,
            similarity=float(near.similarity[number, place]),
            raw_similarity=float(near.raw_similarity[number, place]),
            score=best.score,
            fired=bool(self._gate.fires(torch.tensor(best.score), torch.tensor(lead))),
            runner_up=None if runner is None else runner[2],
            runner_up_similarity=None if runner is None else float(near.similarity[number, runner[1]]),
            asks=self.asks(best),
        )
