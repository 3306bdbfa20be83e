"""The demo: facts that no model knows are written into one, asked in other words, taken back and reloaded.

The editor is given the prompt and the target of a fact and nothing else, so rephrases, chat and near misses test what
the edit does beyond its own words.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from horen.config import HorenConfig
from horen.data import DemoFact, demo_facts
from horen.editor import Editor
from horen.edits import Edit, Receipt, same_text
from horen.errors import StoreError
from horen.model.batching import batches
from horen.model.logits import next_logits

Progress = Callable[[str, int, int], None]

_SHORTEST_ANSWER = 12
_BATCH = 32
_ENOUGH = 0.9


@dataclass(frozen=True)
class Probe:
    """One question and what came of it.

    Attributes:
        fact: number of the fact it belongs to, from 0.
        text: what was asked.
        before: answer of the untouched model, where it was asked.
        after: answer of the edited model.
        edit_id: the edit that fired, or None.
        score: of the nearest edit, fired or not.
        good: whether the answer is right; for a near miss, whether it stayed the same.
    """

    fact: int
    text: str
    before: str | None
    after: str
    edit_id: int | None
    score: float | None
    good: bool


@dataclass(frozen=True)
class Score:
    """How many of how many."""

    count: int
    total: int


@dataclass(frozen=True)
class DemoReport:
    """Everything the demo found.

    Attributes:
        model: name of the model.
        facts: what was taught.
        receipts: one for each fact.
        prompts: the edit prompts.
        rephrases: the same questions in other words.
        chat: the edit prompts asked in chat, before too; empty when the model has no chat template.
        near_misses: questions that resemble a fact and must be answered as before.
        undone_logits: facts whose next-token logits after undo are those from before the edits, bit for bit.
        undone_answers: facts whose answer after undo is that from before.
        reloaded_answers: facts answered by a fresh model and the saved codebook as they were after the edits.
        load_seconds: loading the model.
        prepare_seconds: measuring its key space.
        edit_seconds: writing all facts.
        total_seconds: the whole demo.
        folder: where the codebook was kept, or None.
    """

    model: str
    facts: tuple[DemoFact, ...]
    receipts: tuple[Receipt, ...]
    prompts: tuple[Probe, ...]
    rephrases: tuple[Probe, ...]
    chat: tuple[Probe, ...]
    near_misses: tuple[Probe, ...]
    undone_logits: Score
    undone_answers: Score
    reloaded_answers: Score
    load_seconds: float
    prepare_seconds: float
    edit_seconds: float
    total_seconds: float
    folder: str | None

    @property
    def passed(self) -> bool:
        """Whether nearly all edit prompts are answered right."""
        return sum(probe.good for probe in self.prompts) >= _ENOUGH * len(self.prompts)

    @property
    def summary(self) -> dict[str, Score]:
        """The counts, by name."""
        fired = sum(probe.edit_id is not None for probe in self.near_misses)
        return {
            "edit_prompts_right": _good(self.prompts),
            "rephrases_right": _good(self.rephrases),
            "in_chat_right": _good(self.chat),
            "near_misses_unchanged": _good(self.near_misses),
            "near_misses_fired": Score(fired, len(self.near_misses)),
            "not_converged": Score(sum(not receipt.converged for receipt in self.receipts), len(self.receipts)),
            "undo_restores_logits": self.undone_logits,
            "undo_restores_answers": self.undone_answers,
            "reload_same_answers": self.reloaded_answers,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON takes it."""
        fields = asdict(self)
        head = {"model": self.model, "passed": self.passed}
        head["summary"] = {name: asdict(score) for name, score in self.summary.items()}
        for name in ("undone_logits", "undone_answers", "reloaded_answers"):
            del fields[name]
        return head | fields


def normalised(answer: str) -> str:
    """Return the form in which answers are compared: without case, white space and marks at the end."""
    return same_text(answer).casefold().rstrip(" .,;:!?…\"'”’。！？")


def run_demo(
    model: str = "smollm2-135m-instruct",
    *,
    keep: Path | None = None,
    facts: Sequence[DemoFact] | None = None,
    config: HorenConfig | None = None,
    progress: Progress | None = None,
) -> DemoReport:
    """Teach facts to a model and measure what that did.

    Args:
        model: an embedded name, a folder, a GGUF file or a hub id.
        keep: a new folder in which the codebook stays; None for one that is deleted.
        facts: what to teach; None for the facts that ship with the package.
        config: the settings; None for the default preset.
        progress: called with (phase, done, total).

    Raises:
        StoreError: when ``keep`` is not a new or empty folder.
        ModelError: when the model cannot be loaded.
    """
    if keep is not None and keep.exists() and not (keep.is_dir() and not any(keep.iterdir())):
        raise StoreError(f"{keep} exists and is not empty: choose a new folder for the demo's codebook.")
    with ExitStack() as stack:
        place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="horen-demo-")))
        run = _Run(model, tuple(demo_facts() if facts is None else facts), config, progress or _ignore)
        return run.report(place, kept=keep is not None)


class _Run:
    """One run of the demo; its steps depend on each other in the order of ``report``."""

    def __init__(self, model: str, facts: tuple[DemoFact, ...], config: HorenConfig | None, progress: Progress) -> None:
        self._model, self._facts, self._progress = model, facts, progress
        self._started = time.perf_counter()
        self._progress("Loading the model", 0, 1)
        self._editor = Editor.from_pretrained(model, config)
        self._loaded = time.perf_counter()
        self._progress("Measuring how the model reads", 0, 1)
        self._editor.prepare()
        self._prepared = time.perf_counter()
        sizes = (len(self._editor.tokenizer(f" {fact.target}")["input_ids"]) for fact in facts)
        # A target and its end, with a little room in which an answer that does not stop shows.
        self._budget = max(_SHORTEST_ANSWER, *(size + 2 for size in sizes))

    def report(self, place: Path, *, kept: bool) -> DemoReport:
        editor, facts = self._editor, self._facts
        prompts = [fact.prompt for fact in facts]
        near = [text for fact in facts for text in fact.near_misses]

        before = "Asking the untouched model"
        answers = self._ask(editor, prompts, before)
        chat_answers = self._ask(editor, prompts, before, chat=True) if editor.tokenizer.chat_template else None
        near_answers = self._ask(editor, near, before)
        logits = self._logits(prompts)

        start = time.perf_counter()
        self._progress("Writing the edits", 0, len(facts))
        receipts = editor.edit(
            [Edit(fact.prompt, fact.target) for fact in facts],
            progress=lambda done, total: self._progress("Writing the edits", done, total),
        )
        edit_seconds = time.perf_counter() - start

        after = "Asking the edited model"
        asked = self._probes([[text] for text in prompts], answers, after)
        rephrases = self._probes([list(fact.rephrases) for fact in facts], None, after)
        near_misses = self._probes([list(fact.near_misses) for fact in facts], near_answers, after, same=True)
        chat: tuple[Probe, ...] = ()
        if chat_answers is not None:
            chat = self._probes([[text] for text in prompts], chat_answers, "Asking in chat", chat=True)
        editor.save(place)

        editor.undo()
        undone = self._ask(editor, prompts, "Asking after undo")
        restored = self._logits(prompts)
        same_logits = sum(torch.equal(a, b) for a, b in zip(logits, restored, strict=True))
        editor.unwrap()
        del editor, self._editor

        self._progress("Reloading from disk", 0, 1)
        fresh = Editor.load(place)
        reloaded = self._ask(fresh, prompts, "Asking after reload")
        return DemoReport(
            model=self._model,
            facts=facts,
            receipts=tuple(receipts),
            prompts=asked,
            rephrases=rephrases,
            chat=chat,
            near_misses=near_misses,
            undone_logits=Score(same_logits, len(facts)),
            undone_answers=_same(undone, answers),
            reloaded_answers=_same(reloaded, [probe.after for probe in asked]),
            load_seconds=self._loaded - self._started,
            prepare_seconds=self._prepared - self._loaded,
            edit_seconds=edit_seconds,
            total_seconds=time.perf_counter() - self._started,
            folder=str(place) if kept else None,
        )

    def _probes(
        self,
        texts: list[list[str]],
        before: list[str] | None,
        phase: str,
        *,
        same: bool = False,
        chat: bool = False,
    ) -> tuple[Probe, ...]:
        """Ask each fact's texts, and say what fired.

        Args:
            texts: for each fact.
            before: earlier answers to all of them, in order.
            phase: for the progress.
            same: whether an answer is good when it stayed the same, rather than when it is the target.
            chat: ask in chat.
        """
        flat = [(number, text) for number, group in enumerate(texts) for text in group]
        asked = [text for _, text in flat]
        answers = self._ask(self._editor, asked, phase, chat=chat)
        routes = self._editor.explain(asked, chat=chat, nearest=0)
        probes = []
        for i, (number, text) in enumerate(flat):
            old = None if before is None else before[i]
            good = answers[i] == old if same else normalised(answers[i]) == normalised(self._facts[number].target)
            fired = routes[i].edit_id if routes[i].fired else None
            probes.append(Probe(number, text, old, answers[i], fired, routes[i].score, good))
        return tuple(probes)

    def _ask(self, editor: Editor, texts: Sequence[str], phase: str, *, chat: bool = False) -> list[str]:
        # Like lengths together: the same texts always meet in the same batches, so answers can be compared.
        answers: dict[int, str] = {}
        self._progress(phase, 0, len(texts))
        for batch in batches(texts, _BATCH):
            found = editor.generate([texts[i] for i in batch], self._budget, chat=chat)
            answers |= zip(batch, found, strict=True)
            self._progress(phase, len(answers), len(texts))
        return [answers[i] for i in range(len(texts))]

    def _logits(self, texts: Sequence[str]) -> list[Tensor]:
        """[V] logits of the token that follows each text."""
        editor = self._editor
        return next_logits(editor.model, [list(editor.tokenizer(text)["input_ids"]) for text in texts])


def _good(probes: Sequence[Probe]) -> Score:
    return Score(sum(probe.good for probe in probes), len(probes))


def _same(answers: Sequence[str], others: Sequence[str]) -> Score:
    return Score(sum(a == b for a, b in zip(answers, others, strict=True)), len(answers))


def _ignore(_phase: str, _done: int, _total: int) -> None:
    pass
