"""Which edits prompts wake where a judge decides: candidates by their keys, then what is asked and of whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from horen.memory import Codebook, Gate, Match
from horen.scope.reader import Judged, Scope

#: Candidates that are looked at for each reading of a prompt.
CANDIDATES = 6

Wording = Callable[[int], str | None]


class ScopedGate:
    """A gate whose score is a judge's.

    Args:
        scope: reads and judges.
        gate: retrieval's settings, and the threshold that a score must exceed.
        wording: the prompt or rephrase of an entry; None for one that no active edit has.
    """

    def __init__(self, scope: Scope, gate: Gate, wording: Wording) -> None:
        self._scope, self._gate, self._wording = scope, gate, wording

    def matches(self, codebook: Codebook, queries: Tensor, texts: Sequence[str]) -> list[Match | None]:
        """The entry that each of [B, d_k] queries, read of B texts, most likely asks for; None where there is none."""
        found = codebook.candidates(queries, self._gate, CANDIDATES)
        if found is None:
            return [None] * len(texts)
        near, value_of = found
        rows = [
            [(place, entry, wording) for place, entry in enumerate(entries) if (wording := self._wording(entry))]
            for entries in near.entries.tolist()
        ]
        told = iter(
            self._scope.judged(
                [wording for row in rows for _, _, wording in row],
                [text for text, row in zip(texts, rows, strict=True) for _ in row],
                near.halves[
                    [number for number, row in enumerate(rows) for _ in row],
                    [place for row in rows for place, _, _ in row],
                ],
                of=[number for number, row in enumerate(rows) for _ in row],
            )
        )
        matches: list[Match | None] = []
        for number, row in enumerate(rows):
            judged = sorted(((next(told), place, entry) for place, entry, _ in row), key=lambda item: -item[0].score)
            if not judged:
                matches.append(None)
                continue
            best, place, entry = judged[0]
            value = int(value_of[entry])
            runner = next((item for item in judged[1:] if int(value_of[item[2]]) != value), None)
            lead = torch.inf if runner is None else best.score - runner[0].score
            matches.append(
                Match(
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
            )
        return matches

    def judged(self, stored: Sequence[str], asked: str, halves: Tensor) -> list[Judged]:
        """What is thought of a text beside n stored wordings, whose keys' halves [n, 2] are given."""
        return self._scope.judged(stored, [asked] * len(stored), halves)

    def asks(self, judged: Judged) -> str:
        """What a prompt asks: "own", "about" or "other"."""
        return self._scope.judge.verdict(judged.score, judged.subject, self._gate.threshold)
