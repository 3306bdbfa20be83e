"""A verification of a served codebook from the loading of the model to the report."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from horen.config import HorenConfig
from horen.extras import require
from horen.model.zoo.embedded import EMBEDDED, fetch
from horen.model.zoo.local_gguf import WEIGHTS, convert, is_gguf
from horen.verify.asking import SkippedError
from horen.verify.demo import Progress
from horen.verify.noting import Notes
from horen.verify.outcome import Verification
from horen.verify.serving.checks import CHECKS, TITLES, Served, started, stock
from horen.verify.serving.engine import Engine, Setting
from horen.verify.serving.reference import Reference, refer
from horen.verify.source import Source, source_of


def verify_serving(
    model: str | None = None,
    *,
    codebook: str | os.PathLike[str] | None = None,
    config: HorenConfig | None = None,
    dtype: str = "auto",
    device: str | None = None,
    compiled: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Check that vLLM answers with a codebook's edits as transformers does, and else as without them.

    Transformers is asked first. Then an engine serves a copy of the codebook in a process of its own, by the same
    weights and dtype, and after it one without the plugin, into which nothing of this package is loaded: with it all is
    compared that no edit may answer, bit for bit. No two models are in memory at a time but while an engine starts,
    which compares the codebook with the weights.

    Args:
        model: an embedded name, a folder, a GGUF file or a hub id; None for the codebook's own, or the smallest
            embedded one.
        codebook: a folder whose edits, or some of many, are checked in the place of built-in ones.
        config: settings of the built-in edits; None for the default preset.
        dtype: of the weights and states; "auto" keeps the saved one.
        device: where transformers runs; None for the CPU. vLLM chooses for itself.
        compiled: with graphs that are compiled and captured, as vLLM serves by default. In half precision these round
            otherwise with the plugin's operator than without it, so that less can be compared bit for bit.
        progress: called with (phase, done, total).

    Raises:
        MissingExtraError: where vLLM is not installed.
        ModelError: when the model cannot be loaded or wrapped.
        StoreError: when the codebook cannot be read.
        MismatchError: when it was made for another model.
        ConfigError: when a codebook and settings are given.
    """
    require("vllm", "Checking edits in vLLM needs", ("vllm",))
    source = source_of(model, codebook, config, None)
    with tempfile.TemporaryDirectory(prefix="horen-verify-") as place:
        return _Run(source, Path(place), dtype, device, compiled, progress or _ignore).verified()


@dataclass
class _Run:
    """One run; what it notes as it goes on."""

    source: Source
    place: Path
    dtype: str
    device: str | None
    compiled: bool
    tell: Progress
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.notes = Notes(TITLES, self.tell)

    def verified(self) -> Verification:
        began = time.perf_counter()
        folder = self.place / "codebook"
        if self.source.saved is not None:
            shutil.copytree(self.source.saved.path, folder)
        self.tell("Asking transformers", 0, 1)
        reference = refer(self.source, folder, self.dtype, self.device)
        # The model is gone by now, so engines find the memory that it took.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.facts = dict(reference.facts)
        self._check(reference, folder)
        seconds = time.perf_counter() - began
        return Verification(tuple(self.notes.checks), self.facts, seconds, "horen verify --vllm")

    def _check(self, reference: Reference, folder: Path) -> None:
        served: list[Served] = []
        with ExitStack() as running:

            def starts() -> str:
                engine = running.enter_context(Engine(self._setting(reference, folder), self.place))
                served.append(Served(engine, reference, folder))
                kind = "compiled" if self.compiled else "eager"
                self.facts["vllm"] = str(engine.facts["vllm"])
                self.facts["engine"] = f"{engine.facts['device']}, {kind}, blocks of {engine.facts['block']} tokens"
                return started(engine.facts)

            self.notes.note("starts", starts)
            for name, check in CHECKS.items():
                self.notes.note(name, functools.partial(_checked, check, served))
        self.notes.note("stock", lambda: self._as_stock(reference, served))

    def _as_stock(self, reference: Reference, served: list[Served]) -> str:
        if not served or not served[0].unedited:
            raise SkippedError("nothing was asked that no edit answers")
        with Engine(self._setting(reference, None), self.place) as other:
            return stock(served[0], other, exact=not self.compiled or reference.dtype == "float32")

    def _setting(self, reference: Reference, folder: Path | None) -> Setting:
        name, options = self.source.name, self.source.options or {}
        if name in EMBEDDED:
            name = str(fetch(name))
        elif is_gguf(name):
            name = str(convert(name, WEIGHTS if self.dtype == "auto" else self.dtype))
        codebook = None if folder is None else str(folder)
        return Setting(
            model=name,
            revision=options.get("revision"),
            dtype=reference.dtype,
            length=reference.length,
            compiled=self.compiled,
            codebook=codebook,
        )


def _checked(check: Callable[[Served], str], served: list[Served]) -> str:
    if not served:
        raise SkippedError("the engine has not started")
    return check(served[0])


def _ignore(_phase: str, _done: int, _total: int) -> None:
    pass
