"""Running a plan: edits in order, everything asked at each checkpoint, all of it on disk, resumable.

A run's folder holds ``manifest.json``, ``base.json`` (the untouched model's answers) and one folder for each seed with
``checkpoint-N.jsonl`` (a row for each question), ``checkpoint-N.json`` (costs) and ``state`` (the editor).
Scores are not stored: they are made of the rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from horen.bench.asking import Asker, Row
from horen.bench.costs import counted, held_aside, inference_times, text_perplexity, windows_of
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.metrics.overlap import Similarity
from horen.bench.origin import Origin
from horen.bench.plan import MANIFEST, Plan, batches, in_force, manifest, stream
from horen.bench.records import Dataset, Record
from horen.bench.scorer import Answer
from horen.editors import open_method
from horen.editors.horen.method import CodebookMethod
from horen.editors.interface import Method
from horen.edits import Edit, same_text
from horen.errors import ConfigError, DataError, StoreError
from horen.model.devices import device_of
from horen.model.zoo.encoder import load_encoder
from horen.model.zoo.loading import load_model

Progress = Callable[[str, int, int], None]

_SECONDS_BETWEEN_SAVES = 120.0
BASE = "base.json"


def run(
    plan: Plan,
    out: Path,
    *,
    resume: bool = False,
    base: Path | None = None,
    values: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Run a plan into a folder.

    Args:
        plan: what to run.
        out: a new folder, or with ``resume`` one of the same plan that was interrupted.
        resume: go on where an earlier run of the plan stopped.
        base: folder of another run of the same model, whose untouched answers need not be asked again.
        values: folder of another run of the same stream, or a codebook, whose trained values are taken as they are
            when this begins, see :meth:`horen.Editor.take_values`; what it lacks is trained. The manifest says so, and
            no cost of an edit is measured.
        progress: called with (phase, done, total).

    Raises:
        DataError: when the data set cannot be read or holds fewer edits than the plan wants, or the held-aside text
            cannot be read or is too short.
        StoreError: when the folder is in use for something else, or cannot be written.
        HorenError: whatever the model or the method raise.
    """
    report = progress or _silent
    dataset = records_of(plan)
    known = {} if base is None else _base_of(base, plan, dataset)
    text = None if plan.text is None else held_aside(Path(plan.text))
    origin = None if values is None else Origin.of(values)
    _claim(plan, out, manifest(plan, dataset) | (origin.facts if origin else {}), resume=resume)
    known |= read_answers(out / BASE)
    report("loading the model", 0, 1)
    model, tokenizer = load_model(plan.model, dtype=plan.dtype, device=plan.device)
    similarity = Similarity(load_encoder(device=device_of(model))) if dataset.unstructured else None
    windows = None if text is None else windows_of(text, tokenizer)
    shared = _Shared(known, similarity, windows, report, origin is None)
    for seed in range(plan.seeds):
        method = open_method(plan.method, model, tokenizer, preset=plan.preset, settings=plan.settings, seed=seed)
        try:
            if origin is not None:
                if not isinstance(method, CodebookMethod):
                    raise ConfigError(f"{plan.method!r} takes no values of another run: only 'horen' and 'cosine' do.")
                method.editor.take_values(origin.codebook(seed))
            _Seed(plan, dataset, out, seed, method, shared).run()
        finally:
            method.close()


def records_of(plan: Plan) -> Dataset:
    """Read the data set of a plan.

    Raises:
        DataError: when it cannot be read, or holds fewer edits than the plan wants.
    """
    dataset = load(plan.dataset, plan.path, limit=plan.skip + plan.edits)
    if len(dataset.records) < plan.skip + plan.edits:
        raise DataError(
            f"{plan.path} holds {len(dataset.records)} usable records ({len(dataset.rejected)} are not), fewer than "
            f"{plan.edits} edits after {plan.skip} left out: ask for as many as there are."
        )
    return dataset


@dataclass(frozen=True)
class _Shared:
    """What all seeds of a run use."""

    base: dict[str, Answer]
    similarity: Similarity | None
    windows: list[list[int]] | None
    progress: Progress
    trains: bool


class _Seed:
    """One order of the stream."""

    def __init__(
        self,
        plan: Plan,
        dataset: Dataset,
        out: Path,
        seed: int,
        method: Method,
        shared: _Shared,
    ) -> None:
        self._plan, self._method, self._progress, self._number = plan, method, shared.progress, seed
        self._edits = stream(dataset.records[plan.skip :], plan.edits, seed)
        self._folder, self._base_file = out / f"seed-{seed}", out / BASE
        long = dataset.unstructured
        budgets = plan.answer_budget(unstructured=long), plan.detail_budget(unstructured=long)
        self._asker = Asker(method, *budgets, long, shared.base, shared.similarity)
        self._trains, self._windows = shared.trains, shared.windows
        self._perplexity: float | None = None  # of the untouched model
        self._spent = {"batches": 0, "counted": 0, "flops": 0, "timed": 0, "seconds": 0.0}

    def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        done = self._resume()
        remaining = [stop for stop in self._plan.checkpoints if not self._is_done(stop)]
        if done in remaining:
            self._check(done)  # an interruption between the last edit and the end of a checkpoint
        saved = time.monotonic()
        for batch in batches(self._edits, self._plan.batch, remaining, done):
            self._edit(batch)
            done += len(batch)
            self._progress("editing", done, len(self._edits))
            if done in remaining:
                self._save(done)
                self._check(done)
                saved = time.monotonic()
            elif time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                self._save(done)
                saved = time.monotonic()

    def _edit(self, batch: Sequence[Record]) -> None:
        edits = [Edit(record.prompt, record.target, subject=record.subject) for record in batch]
        # A first batch may prepare the method for its model, and counting operations takes time of its own.
        if self._spent["batches"] == 1:
            self._spent["flops"] = counted(lambda: self._method.edit(edits))
            self._spent["counted"] = len(edits)
        else:
            start = time.perf_counter()
            self._method.edit(edits)
            if self._spent["batches"]:
                self._spent["seconds"] += time.perf_counter() - start
                self._spent["timed"] += len(edits)
        self._spent["batches"] += 1

    def _check(self, count: int) -> None:
        held = in_force(self._edits, count, self._plan.sample, self._number)
        known = len(self._asker.base)
        edited = frozenset(same_text(record.prompt) for record in self._edits[:count])
        rows = self._asker.rows(held, edited, self._progress)
        if len(self._asker.base) != known:
            write_answers(self._base_file, self._asker.base)
        costs: dict[str, Any] = {
            "edits": count,
            "scored": len(held),
            "seconds_an_edit": _share(self._spent["seconds"], self._spent["timed"]) if self._trains else None,
            "flops_an_edit": _share(self._spent["flops"], self._spent["counted"]) if self._trains else None,
            "bytes_an_edit": self._method.stored_bytes() / max(count, 1),
            "inference": inference_times(self._method, [item.record.prompt for item in held]),
        }
        if self._windows is not None:
            costs["retention"] = text_perplexity(self._method, self._windows, self._perplexity)
            self._perplexity = costs["retention"]["perplexity_base"]
        lines = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
        write_text(self._folder / f"checkpoint-{count}.jsonl", lines)
        _write_json(self._folder / f"checkpoint-{count}.json", costs)  # last: its presence says that all is there

    def _is_done(self, count: int) -> bool:
        return (self._folder / f"checkpoint-{count}.json").exists()

    def _save(self, done: int) -> None:
        self._method.save(self._folder / "state")
        _write_json(self._folder / "cursor.json", {"done": done, "spent": self._spent})

    def _resume(self) -> int:
        if self._is_done(self._plan.edits):
            return len(self._edits)
        cursor = self._folder / "cursor.json"
        if not cursor.exists():
            return 0
        known = json.loads(cursor.read_text(encoding="utf-8"))
        self._method.restore(self._folder / "state")
        self._spent = known["spent"]
        return int(known["done"])


def _share(total: float, count: float) -> float | None:
    return total / count if count else None


def checkpoint_rows(folder: Path, count: int) -> list[Row]:
    """Return the rows of a checkpoint of one seed."""
    text = (folder / f"checkpoint-{count}.jsonl").read_text(encoding="utf-8")
    return [Row.from_dict(json.loads(line)) for line in text.splitlines()]


def _claim(plan: Plan, out: Path, facts: dict[str, Any], *, resume: bool) -> None:
    place = out / MANIFEST
    if place.exists():
        if not resume:
            raise StoreError(f"{out} holds a run already: continue it with --resume, or choose a new folder.")
        before = json.loads(place.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(plan.to_dict()))
        known = asdict(Plan("", "", "")) | before["plan"]  # an older run lacks what came later
        changed = [name for name, value in wanted.items() if known[name] != value]
        if before.get("values_of") != facts.get("values_of"):
            changed.append("where values come from")
        if changed or before["dataset"]["sha256"] != facts["dataset"]["sha256"]:
            what = ", ".join(changed) or "the data set's content"
            raise StoreError(f"{out} holds a run with another plan ({what}): choose a new folder for this one.")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is no empty folder: choose a new one for the results.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{out} cannot be made ({error.strerror}): choose a folder that can be written.") from error
    _write_json(place, facts)


def _base_of(other: Path, plan: Plan, dataset: Dataset) -> dict[str, Answer]:
    """Return the untouched model's answers of another run, which has to have asked the same model in the same way."""
    try:
        found = json.loads((other / MANIFEST).read_text(encoding="utf-8"))
        theirs, unstructured = Plan(**found["plan"]), bool(found["dataset"]["unstructured"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{other} holds no run to take answers from ({error!r}): give a run's folder.") from error
    differs = [name for name in ("model", "dtype", "device") if getattr(theirs, name) != getattr(plan, name)]
    budgets = theirs.detail_budget(unstructured=unstructured), plan.detail_budget(unstructured=dataset.unstructured)
    if budgets[0] != budgets[1]:
        differs.append("budget")
    if differs:
        raise StoreError(f"{other} asked in another way ({', '.join(differs)}): give a run of the same model.")
    return read_answers(other / BASE)


def read_answers(place: Path) -> dict[str, Answer]:
    """Return the untouched model's answers of a file, by prompt; none where there is no file."""
    if not place.exists():
        return {}
    known = json.loads(place.read_text(encoding="utf-8"))
    return {text: Answer(said["text"], tuple(said["tokens"]), said["cut"], said["raw"]) for text, said in known.items()}


def write_answers(place: Path, base: dict[str, Answer]) -> None:
    """Write the untouched model's answers."""
    _write_json(place, {text: asdict(said) for text, said in base.items()})


def _write_json(place: Path, document: Any) -> None:
    write_text(place, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _silent(_phase: str, _done: int, _total: int) -> None:
    pass
