"""A verification from the loading of the model to the report."""

from __future__ import annotations

import functools
import gc
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from horen.config import HorenConfig
from horen.data import demo_facts, load_bank
from horen.editor import Editor
from horen.edits import Edit
from horen.model.fingerprint import fingerprint
from horen.model.zoo.loading import load_model
from horen.verify.asking import (
    FailedError,
    SkippedError,
    Subject,
    Untouched,
    budget_of,
    identical,
    next_of,
    told,
)
from horen.verify.checks import CHECKS, TITLES, unwrapped
from horen.verify.demo import Progress
from horen.verify.elsewhere import Job, run_elsewhere
from horen.verify.facts import facts_of
from horen.verify.noting import Notes
from horen.verify.outcome import Verification
from horen.verify.source import BUILT_IN, Source, source_of

_UNRELATED = 6


def verify(
    model: str | None = None,
    *,
    codebook: str | os.PathLike[str] | None = None,
    config: HorenConfig | None = None,
    dtype: str = "auto",
    device: str | None = None,
    encoder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check on a model that edits do what they should, and that nothing else happens to it.

    Edits fire and answer alone, in batches, without a cache, on a kept one, in chat and streamed. Prompts that wake
    nothing, the model with edits disabled, and the one from which they were taken back give the logits of the model
    before it was wrapped, bit for bit. Another process that loads the codebook finds the same logits and answers. What
    goes wrong in one check is told there, and the others go on. No file but temporary ones is written.

    Args:
        model: an embedded name, a folder, a GGUF file or a hub id; None for the codebook's own, or the smallest
            embedded one.
        codebook: a folder whose edits, or some of many, are checked in the place of built-in ones.
        config: settings of the built-in edits; None for the default preset.
        dtype: of the weights; "auto" keeps the saved one.
        device: where to put the model; None for the CPU.
        encoder: the text encoder that made the codebook's keys, unless that is the package's own.
        progress: called with (phase, done, total).

    Raises:
        ModelError: when the model cannot be loaded or wrapped.
        StoreError: when the codebook cannot be read.
        MismatchError: when it was made for another model.
        ConfigError: when a codebook and settings are given, or an encoder and no codebook that reads one.
    """
    source = source_of(model, codebook, config, encoder)
    with tempfile.TemporaryDirectory(prefix="horen-verify-") as place:
        return _Run(source, Path(place), dtype, device, progress or _ignore).verified()


@dataclass
class _Expected:
    """What another process shall find: logits [V] by prompt, and the answers to the edits' prompts."""

    logits: dict[str, Tensor]
    answers: list[str]
    asked: list[str]
    budget: int


@dataclass
class _Run:
    """One run; what it notes as it goes on."""

    source: Source
    place: Path
    dtype: str
    device: str | None
    tell: Progress
    facts: dict[str, str] = field(default_factory=dict)
    expected: _Expected | None = None

    def __post_init__(self) -> None:
        self.notes = Notes(TITLES, self.tell)

    def verified(self) -> Verification:
        started = time.perf_counter()
        self._check_model()
        # The model is gone by now, so the other process finds the memory that it took.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.notes.note("process", self._same_elsewhere)
        return Verification(tuple(self.notes.checks), self.facts, time.perf_counter() - started)

    def _check_model(self) -> None:
        """Load the model, and check all that this process can."""
        source = self.source
        self.tell("Loading the model", 0, 1)
        model, tokenizer = load_model(source.name, dtype=self.dtype, device=self.device, options=source.options)
        made_for = fingerprint(model)
        edits, extra = source.edits(), demo_facts()[BUILT_IN]
        stored = len(source.saved.history.active()) if source.saved is not None else 0
        which = f"{len(edits)} of {stored} of a codebook" if source.saved is not None else f"{len(edits)} built-in"
        self.facts = facts_of(source.name, model, tokenizer, made_for, source.config, which)
        self.tell("Asking the untouched model", 0, 1)
        unrelated = load_bank().unrelated(_UNRELATED)
        untouched = Untouched.of(model, tokenizer, [e.prompt for e in edits.values()], extra.prompt, unrelated)
        if source.saved is None:
            editor = Editor(model, tokenizer, source.config)
        else:
            editor = Editor.load(source.saved.path, model, tokenizer, encoder=source.encoder)
        subject = Subject(
            editor=editor,
            edits=edits,
            extra=Edit(extra.prompt, extra.target),
            unrelated=unrelated,
            budget=budget_of(tokenizer, edits.values()),
            untouched=untouched,
            whole=source.saved is None,
            folder=self.place / "codebook" if source.saved is None else source.saved.path,
        )
        self.notes.note("stored", lambda: self._stored(subject))
        for name, check in CHECKS.items():
            self.notes.note(name, functools.partial(check, subject))
        self.notes.note("unwrap", functools.partial(unwrapped, subject, made_for))

    def _stored(self, subject: Subject) -> str:
        """Edits are in the codebook, which is in its folder."""
        editor = subject.editor
        if subject.whole:
            edits, subject.edits = subject.edits, {}
            receipts = editor.edit(list(edits.values()))
            subject.edits = {receipt.id: edit for receipt, edit in zip(receipts, edits.values(), strict=True)}
            editor.save(subject.folder)
        asked = [*subject.prompts, *subject.unrelated]
        logits = next_of(editor.model, editor.tokenizer, asked)
        self.expected = _Expected(logits, subject.answers_alone(), subject.prompts, subject.budget)
        if not subject.whole:
            return f"{len(editor.edits())} edits loaded"
        weak = [receipt.id for receipt in receipts if not receipt.converged]
        if weak:
            raise FailedError(f"{told(weak, len(receipts))} did not converge")
        return f"{len(receipts)} edits written, all of them converged"

    def _same_elsewhere(self) -> str:
        """Another process that loads the codebook finds the same logits, bit for bit, and the same answers."""
        expected, source = self.expected, self.source
        if expected is None:
            raise SkippedError("nothing was stored")
        exchange = self.place / "exchange"
        exchange.mkdir()
        folder = self.place / "codebook" if source.saved is None else source.saved.path
        job = Job(
            codebook=str(folder.resolve()),
            encoder=source.encoder,
            model=source.name,
            options=source.options,
            dtype=self.dtype,
            device=self.device,
            threads=torch.get_num_threads(),
            prompts=list(expected.logits),
            asked=expected.asked,
            budget=expected.budget,
        )
        logits, answers = run_elsewhere(job, exchange)
        said = identical(dict(zip(expected.logits, logits, strict=True)), expected.logits, list(expected.logits))
        apart = sum(a != b for a, b in zip(answers, expected.answers, strict=True))
        if apart:
            raise FailedError(f"{apart} of {len(answers)} answers differ")
        return f"{said}, {len(answers)} answers are the same"


def _ignore(_phase: str, _done: int, _total: int) -> None:
    pass
