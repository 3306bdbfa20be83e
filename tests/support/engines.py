"""An engine that computes nothing and keeps the rules of one, or breaks them one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from horen.store.state import Saved
from horen.verify.serving.engine import Request, Said

BLOCK = 4


@dataclass
class StandIn:
    """What :class:`horen.verify.serving.engine.Engine` can be asked, where no vLLM is installed.

    A prompt that ends with an edit's own wakes it and is answered by its target, any other by the same few words.
    Log-probabilities are those that the states give: of the edit, and of what disturbs them.

    Attributes:
        tokenizer: of the prompts.
        folder: of the codebook, read anew for every request; None for an engine without edits.
        faults: rules that are broken: deaf, misrouted, babbling, forced, mixing, stale, forgetful, leaking, other.
    """

    tokenizer: PreTrainedTokenizerBase
    folder: Path | None
    faults: frozenset[str] = frozenset()
    cache: list[tuple[tuple[int, ...], int | None]] = field(default_factory=list)
    held: list[tuple[Request, Said]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begun = self._stored()
        self.facts: Mapping[str, Any] = {"vllm": "0", "device": "none", "block": BLOCK, "sites": ["layers.2"]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def alone(self, requests: Sequence[Request], *, warm: bool = False) -> list[Said]:
        found = []
        for request in requests:
            self.cache = self.cache if warm else []
            found.append(self._said(request))
        return found

    def together(self, requests: Sequence[Request], *, warm: bool = False) -> list[Said]:
        self.cache = self.cache if warm else []
        held, self.held = self.held, []
        before = [self._said(request) if "forgetful" in self.faults else said for request, said in held]
        woken = sum(self._woken(request)[0] is not None for request in requests)
        return [*before, *(self._said(request, woken if "mixing" in self.faults else 0) for request in requests)]

    def poured(self, requests: Sequence[Request]) -> list[Said]:
        return self.together(requests)

    def hold(self, request: Request) -> None:
        self.held = [(request, self._said(request))]

    def _stored(self) -> dict[str, tuple[int, str]]:
        active = () if self.folder is None else Saved.read(self.folder).history.active()
        return {record.prompt: (record.id, record.target) for record in active}

    def _woken(self, request: Request) -> tuple[int | None, str]:
        stored = self.begun if "stale" in self.faults else self._stored()
        if (
            isinstance(request.prompt, str)
            and "deaf" not in self.faults
            and (not request.off or "forced" in self.faults)
        ):
            for prompt, (number, target) in stored.items():
                if request.prompt.endswith(prompt):
                    return (number + 1 if "misrouted" in self.faults else number), target
        return None, "as ever"

    def _said(self, request: Request, disturbed: int = 0) -> Said:
        edit, text = self._woken(request)
        if "babbling" in self.faults:
            text = f"babble {text}"
        row = request.prompt if not isinstance(request.prompt, str) else self.tokenizer(request.prompt)["input_ids"]
        words = self.tokenizer(text)["input_ids"]
        tokens = [words[n % len(words)] for n in range(request.tokens)] if request.through else words[: request.tokens]
        cached, leaked = self._cached(row)
        logprob = -1.0 - (edit or 0) - disturbed - leaked - ("other" in self.faults)
        self.cache.append(((*row, *tokens), None if edit is None else len(row) - 1))
        logprobs = tuple({token: logprob} for token in tokens)
        revision = None if edit is None else len(self._stored())
        return Said(text, tuple(row), tuple(tokens), logprobs, edit, revision, cached, 1.0)

    def _cached(self, row: Sequence[int]) -> tuple[int, bool]:
        """Return how many tokens are found in the cache, and whether an edit's states are among them."""
        most, leaked = 0, False
        for known, changed in self.cache:
            same = next((n for n, pair in enumerate(zip(known, row, strict=False)) if pair[0] != pair[1]), len(known))
            if changed is not None and "leaking" not in self.faults:
                same = min(same, changed)
            same = min(same, len(row) - 1) // BLOCK * BLOCK
            if same > most:
                most, leaked = same, changed is not None and same > changed
        return most, leaked
