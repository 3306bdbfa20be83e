"""Choosing a method's settings on a validation split, within a budget that is the same for every method.

A search's folder holds ``tune.json`` (what is searched), a run of :mod:`horen.bench.run` for each trial, and in the end
``settings.json``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from horen.bench.files import write_text
from horen.bench.plan import MANIFEST, Plan, circumstances
from horen.bench.results import HEADLINE, read
from horen.bench.run import BASE, Progress, records_of, run
from horen.config.settings import Settings
from horen.editors import settings_of
from horen.errors import ConfigError, DataError, EditError, StoreError

SEARCH, SETTINGS, FAILED = "tune.json", "settings.json", "failed.json"


@dataclass(frozen=True)
class Trial:
    """One setting of what is searched, and what came of it.

    Attributes:
        settings: the value of each setting that is searched.
        scores: reliability, generalization, locality and overall at the end of the stream; empty where it failed.
        seconds_an_edit: as measured, or None.
        failed: why the method could not run with these settings, or None.
    """

    settings: dict[str, Any]
    scores: dict[str, float | None]
    seconds_an_edit: float | None = None
    failed: str | None = None

    @property
    def merit(self) -> tuple[float, float]:
        """What trials are ranked by: reliability times overall, then overall; −1 where it failed.

        By overall alone settings that change nothing would win over many that edit: they have a locality of 1.
        """
        if self.failed is not None or self.scores.get("overall") is None:
            return -1.0, -1.0
        overall = self.scores["overall"] or 0.0
        return (self.scores["reliability"] or 0.0) * overall, overall


@dataclass(frozen=True)
class Tuned:
    """What a search chose.

    Attributes:
        method: name of the editor.
        preset: that the settings are changes to.
        settings: of the best trial, together with those that were fixed.
        budget: number of ``trials``, of ``edits`` in each, and the ``seed`` that drew them.
        validation: ``dataset``, ``path``, ``sha256``, ``skip`` and ``edits`` of the records that scored the trials.
        trials: all of them, in the order in which they ran.
    """

    method: str
    preset: str
    settings: dict[str, Any]
    budget: dict[str, int]
    validation: dict[str, Any]
    trials: tuple[Trial, ...]

    @property
    def ranked(self) -> list[Trial]:
        """The trials, the best first; of equals the earlier one, so the preset's own settings before others."""
        return sorted(self.trials, key=lambda trial: trial.merit, reverse=True)

    def shared(self, plan: Plan) -> int:
        """Return how many records of a plan's stream, same file and places, the settings were chosen on."""
        if Path(self.validation["path"]).resolve() != Path(plan.path).resolve():
            return 0
        start, count = int(self.validation["skip"]), int(self.validation["edits"])
        return max(min(start + count, plan.skip + plan.edits) - max(start, plan.skip), 0)


def candidates(kind: type[Settings], plan: Plan, trials: int, seed: int) -> list[dict[str, Any]]:
    """Return the settings of each trial: the preset's own, then others drawn from what is searched.

    Settings that the plan fixes are not searched. The first trials of a longer search are those of a shorter one.

    Raises:
        ConfigError: when there is nothing to search, or the plan's settings are not valid.
    """
    start = kind.from_preset(plan.preset, **plan.settings)
    axes = {name: values for name, values in kind.search.items() if name not in plan.settings}
    if not axes:
        why = "its settings are all fixed" if kind.search else "none of its settings are searched"
        raise ConfigError(f"The method {plan.method!r} has nothing to tune ({why}): run it as it is.")
    own = tuple(getattr(start, name) for name in axes)
    others = [values for values in itertools.product(*axes.values()) if values != own]
    random.Random(seed).shuffle(others)  # noqa: S311 - a draw, not a secret
    return [dict(zip(axes, values, strict=True)) for values in (own, *others[: trials - 1])]


def tune(
    plan: Plan, out: Path, *, trials: int, seed: int = 0, resume: bool = False, progress: Progress | None = None
) -> Tuned:
    """Run trials of a method's settings on a validation stream and write the best into ``settings.json``.

    Each trial is a run of the plan, ranked by :attr:`Trial.merit` at its end. A trial that the method refuses as such
    (a layer that the model does not have, a loss that diverges) counts as the worst.

    Args:
        plan: what each trial runs; its settings are the same in all of them.
        out: a new folder, or with ``resume`` one of the same search; more trials than before may be asked for.
        trials: how many settings are tried, the preset's own among them; fewer where there are not so many.
        seed: of the draw.
        resume: go on where an earlier search stopped.
        progress: called with (phase, done, total).

    Raises:
        ConfigError: when there is nothing to tune, or no trial could run.
        DataError: when the data cannot be read, are fewer than the plan wants, or have nothing to score ``overall`` by.
        StoreError: when the folder is in use for something else, or cannot be written.
        HorenError: whatever else a run raises.
    """
    if trials < 1:
        raise DataError(f"trials={trials} is not valid: give at least 1.")
    kind = settings_of(plan.method)
    drawn = candidates(kind, plan, trials, seed)
    facts = circumstances(records_of(plan), plan.device)
    search = {name: list(values) for name, values in kind.search.items() if name not in plan.settings}
    _claim(out, {"plan": plan.to_dict(), "search": search, "seed": seed} | facts, resume=resume)
    done: list[Trial] = []
    folders = [out / f"trial-{number:03}" for number in range(len(drawn))]
    for number, (settings, folder) in enumerate(zip(drawn, folders, strict=True)):
        one = dataclasses.replace(plan, settings=plan.settings | settings, intermediate=False)
        base = next((other for other in folders[:number] if (other / BASE).exists()), None)
        failed = _run(one, folder, base, _numbered(progress, number + 1, len(drawn)))
        done.append(Trial(settings, {}, failed=failed) if failed else _scored(one, folder, settings))
    if all(trial.failed for trial in done):
        raise ConfigError(f"No trial of {plan.method!r} could be run, the first because: {done[0].failed}")
    asked = {"dataset": plan.dataset, "path": plan.path, "sha256": facts["dataset"]["sha256"]}
    asked |= {"skip": plan.skip, "edits": plan.edits}
    budget = {"trials": len(done), "edits": plan.edits, "seed": seed}
    found = Tuned(plan.method, plan.preset, {}, budget, asked, tuple(done))
    found = dataclasses.replace(found, settings=plan.settings | found.ranked[0].settings)
    _write(out / SETTINGS, asdict(found))
    return found


def read_tuned(place: Path) -> Tuned:
    """Read what :func:`tune` wrote.

    Raises:
        DataError: when the file cannot be read or holds something else.
    """
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        trials = tuple(Trial(**trial) for trial in document["trials"])
        found = Tuned(**(document | {"trials": trials}))
        found.settings.items(), found.validation["path"], found.validation["skip"], found.validation["edits"]
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{place} holds no tuned settings ({error!r}): give the settings.json that horen bench tune has written."
        ) from error


def _claim(out: Path, document: dict[str, Any], *, resume: bool) -> None:
    place = out / SEARCH
    if place.exists():
        if not resume:
            raise StoreError(f"{out} holds a search already: continue it with --resume, or choose a new folder.")
        before = json.loads(place.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(document))
        changed = [name for name, value in now["plan"].items() if before["plan"].get(name) != value]
        changed += [name for name in ("search", "seed") if before[name] != now[name]]
        if before["dataset"]["sha256"] != now["dataset"]["sha256"]:
            changed.append("the data set's content")
        if changed:
            raise StoreError(f"{out} holds another search ({', '.join(changed)}): choose a new folder for this one.")
        return
    if out.exists() and (not out.is_dir() or any(item.suffix != ".tmp" for item in out.iterdir())):
        raise StoreError(f"{out} is no empty folder: choose a new one for the search.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{out} cannot be made ({error.strerror}): choose a folder that can be written.") from error
    _write(place, document)


def _run(plan: Plan, folder: Path, base: Path | None, progress: Progress | None) -> str | None:
    """Run a trial to its end unless it is there; gives why the method refused its settings, if it did."""
    if (folder / FAILED).exists():
        return str(json.loads((folder / FAILED).read_text(encoding="utf-8"))["error"])
    if all((folder / f"seed-{seed}" / f"checkpoint-{plan.edits}.json").exists() for seed in range(plan.seeds)):
        return None
    if folder.exists() and not (folder / MANIFEST).exists():
        shutil.rmtree(folder)  # killed before the run had a manifest
    try:
        run(plan, folder, resume=True, base=base, progress=progress)
    except (ConfigError, EditError) as error:
        _write(folder / FAILED, {"error": str(error)})
        return str(error)
    return None


def _scored(plan: Plan, folder: Path, settings: dict[str, Any]) -> Trial:
    result = read(folder)
    spread = result.spread(plan.edits)
    scores: dict[str, float | None] = {name: spread[name]["mean"] for name in HEADLINE}
    missing = [name for name in HEADLINE if scores[name] is None]
    if missing:
        raise DataError(
            f"{plan.path} has nothing to score {' and '.join(missing)} by in the {plan.edits} edits after "
            f"{plan.skip}, so trials cannot be ranked: choose records with rephrases and negatives."
        )
    return Trial(settings, scores, result.at(plan.edits)[0].costs["seconds_an_edit"])


def _numbered(progress: Progress | None, number: int, count: int) -> Callable[[str, int, int], None]:
    def at(phase: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"trial {number} of {count}: {phase}", done, total)

    return at


def _write(place: Path, document: Any) -> None:
    write_text(place, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
