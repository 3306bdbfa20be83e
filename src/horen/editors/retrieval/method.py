"""In-context editing by retrieval as a method of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.common.base import Untouched, latest
from horen.editors.common.states import read_state, write_state
from horen.editors.interface import Route
from horen.editors.retrieval.config import RetrievalConfig
from horen.edits import Edit, same_text
from horen.errors import MismatchError, StoreError
from horen.memory import Codebook

Encoder = Callable[[list[str]], Tensor]

# Cosine of one text's saved and present embedding above which both come from one encoder, whatever its arithmetic.
_SAME_ENCODER = 0.99


@dataclass(frozen=True)
class Fact:
    """A wording that finds a fact, and the fact."""

    prompt: str
    target: str
    wording: str


class Retrieval(Untouched):
    """In-context editing: the nearest fact is put before the question, and the model is left as it is.

    Facts are found by the cosine of sentence embeddings; the nearest one is used if it exceeds the threshold. Nothing
    is trained. The prompt that the model then sees is the whole rendered text, so its boundary is the text's end.

    Args:
        model: any causal language model.
        tokenizer: the model's own.
        encoder: sentence encoder, from n texts to [n, d] float32 unit rows.
        config: the settings; None for the defaults.
    """

    name = "retrieval"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        encoder: Encoder,
        config: RetrievalConfig | None = None,
    ) -> None:
        super().__init__(model, tokenizer)
        self.config = config or RetrievalConfig()
        self._encoder = encoder
        self._facts: list[Fact | None] = []
        self._keys: Codebook | None = None
        self._disabled = 0

    def edit(self, edits: Sequence[Edit]) -> None:
        """Store the edits as facts; what is stored for their prompts, or for one of the wordings, is superseded.

        Raises:
            EditError: for a list whose rephrases contradict it; nothing changed.
        """
        fresh = latest(edits)
        facts = [
            Fact(edit.prompt, edit.target, wording)
            for edit in fresh
            for wording in dict.fromkeys((edit.prompt, *edit.rephrases))
        ]
        if not facts:
            return
        keys = self._encoder([fact.wording for fact in facts])
        self._forget({same_text(f.prompt) for f in facts}, {same_text(f.wording) for f in facts})
        self._store(keys, facts)

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return token ids of each prompt, with the fact that it finds before it.

        Raises:
            EditError: for a prompt that encodes to nothing.
        """
        if self._disabled or self._keys is None:
            return super().rows(prompts)
        return super().rows(
            [
                prompt if fact is None or similarity <= self.config.threshold else self._rendered(fact, prompt)
                for prompt, (fact, similarity) in zip(prompts, self._nearest(prompts), strict=True)
            ]
        )

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Feed prompts without facts within the block."""
        self._disabled += 1
        try:
            yield
        finally:
            self._disabled -= 1

    def routes(self, prompts: Sequence[str]) -> list[Route]:
        """Return where prompts go; the score is the cosine, −inf while nothing is stored."""
        return [
            Route(None if fact is None else fact.prompt, similarity, similarity > self.config.threshold)
            for fact, similarity in self._nearest(prompts)
        ]

    def stored_bytes(self) -> int:
        """Return the bytes of embeddings, superseded ones too, and of the facts' texts, not of the encoder."""
        texts = [text for fact in self._facts if fact is not None for text in asdict(fact).values()]
        return (0 if self._keys is None else self._keys.keys.nbytes) + sum(len(text.encode()) for text in texts)

    def save(self, folder: Path) -> None:
        """Write the facts and their embeddings into a folder.

        Raises:
            StoreError: when the folder cannot be written; what it held before is intact.
        """
        numbers = [number for number, fact in enumerate(self._facts) if fact is not None]
        records = [asdict(fact) for fact in self._facts if fact is not None]
        keys = torch.zeros(0, 0) if self._keys is None else self._keys.keys[numbers]
        settings = self.config.to_dict()
        write_state(folder, self.name, self.model, settings, records=records, tensors={"keys": keys})

    def restore(self, folder: Path) -> None:
        """Take up what :meth:`save` wrote in place of what is stored.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made with other settings or another encoder, for another model or by a newer
                version.
        """
        found = read_state(folder, self.name, self.model, self.config.to_dict())
        try:
            facts = [Fact(str(r["prompt"]), str(r["target"]), str(r["wording"])) for r in found.records]
            keys = found.tensors["keys"]
            if keys.ndim != 2 or len(keys) != len(facts):
                raise ValueError(f"{len(facts)} facts and embeddings of shape {tuple(keys.shape)}")
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{folder}: codebook.safetensors does not fit edits.jsonl ({error}): restore the folder from a copy."
            ) from error
        if facts:
            again = self._encoder([facts[0].wording])
            if again.shape[1] != keys.shape[1] or float(again[0].cpu() @ keys[0]) < _SAME_ENCODER:
                raise MismatchError(f"{folder} was made with another sentence encoder: open the method with that one.")
            keys = keys.to(again.device)
        self._facts, self._keys = [], None
        if facts:
            self._store(keys, facts)

    def _rendered(self, fact: Fact, question: str) -> str:
        return self.config.template.format(prompt=fact.prompt, target=fact.target, question=question)

    def _nearest(self, prompts: Sequence[str]) -> list[tuple[Fact | None, float]]:
        if self._keys is None or not prompts:
            return [(None, -math.inf) for _ in prompts]
        found = self._keys.nearest(self._encoder(list(prompts))) or []
        return [(self._facts[entry], similarity) for entry, similarity in found]

    def _forget(self, prompts: set[str], wordings: set[str]) -> None:
        for number, fact in enumerate(self._facts):
            if fact is None or not (same_text(fact.prompt) in prompts or same_text(fact.wording) in wordings):
                continue
            self._facts[number] = None
            if self._keys is not None:
                self._keys.set_awake([number], False)

    def _store(self, keys: Tensor, facts: Sequence[Fact]) -> None:
        if self._keys is None:
            self._keys = Codebook(keys.shape[1], 0, device=keys.device)
        for key, fact in zip(keys, facts, strict=True):
            self._keys.add_entries(key[None], len(self._facts))
            self._facts.append(fact)
