"""Reading runs back from disk, and setting two of them against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from horen.bench.asking import PROMPT, REPHRASE, Row
from horen.bench.metrics.statistics import difference, over_seeds
from horen.bench.plan import MANIFEST
from horen.bench.records import NEGATIVES
from horen.bench.run import checkpoint_rows
from horen.bench.summary import per_record, summarise
from horen.errors import DataError

HEADLINE = ("reliability", "generalization", "locality", "overall")


@dataclass(frozen=True)
class Checkpoint:
    """What one seed had after so many edits.

    Attributes:
        seed: of the order.
        edits: made so far.
        costs: as measured.
        scores: see :func:`horen.bench.summary.summarise`.
    """

    seed: int
    edits: int
    costs: dict[str, Any]
    scores: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A run that was read from its folder, or its scores alone from the file that they were kept in.

    Attributes:
        folder: where it is.
        manifest: what was run.
        checkpoints: by seed, then by number of edits.
    """

    folder: Path
    manifest: dict[str, Any]
    checkpoints: tuple[Checkpoint, ...]

    @property
    def name(self) -> str:
        """Method and, where it has presets, the preset; with changed settings."""
        plan = self.manifest["plan"]
        settings = ", ".join(f"{name}={value}" for name, value in plan["settings"].items())
        preset = "" if plan["method"] in {"none", "retrieval"} else f" {plan['preset']}"
        return f"{plan['method']}{preset}" + (f" ({settings})" if settings else "")

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of edits at which something was scored."""
        return tuple(sorted({item.edits for item in self.checkpoints}))

    @property
    def last(self) -> Checkpoint:
        """The last checkpoint of the first seed that got there."""
        return self.at(self.stops[-1])[0]

    def rows(self) -> list[Row]:
        """Return everything that was asked at :attr:`last`; nothing where only scores were kept."""
        if self.folder.is_file():
            return []
        return checkpoint_rows(self.folder / f"seed-{self.last.seed}", self.last.edits)

    def at(self, edits: int) -> list[Checkpoint]:
        """Return the checkpoints after so many edits, one for each seed that got there."""
        return [item for item in self.checkpoints if item.edits == edits]

    def spread(self, edits: int) -> dict[str, dict[str, Any]]:
        """Return the headline scores over the seeds."""
        found = {}
        for name in HEADLINE:
            given = [item.scores["headline"][name] for item in self.at(edits)]
            means = [value["mean"] if isinstance(value, dict) else value for value in given]
            found[name] = asdict(over_seeds([value for value in means if value is not None]))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "manifest": self.manifest,
            "checkpoints": [asdict(item) for item in self.checkpoints],
            "over_seeds": {str(stop): self.spread(stop) for stop in self.stops},
        }


def read(folder: Path) -> Result:
    """Read a run, finished or not, or a file of JSON that holds what :meth:`Result.to_dict` gave.

    Raises:
        DataError: when there is no run, or nothing of it was scored yet.
    """
    if folder.is_file():
        document = _document(folder)
        try:
            checkpoints = tuple(Checkpoint(**item) for item in document["checkpoints"])
            return Result(folder, dict(document["manifest"]), checkpoints)
        except (KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no scores of a run ({error}): give a run's folder.") from error
    if not (folder / MANIFEST).exists():
        raise DataError(f"{folder} holds no run: give the folder that horen bench run --out was given.")
    manifest = _document(folder / MANIFEST)
    unstructured = bool(manifest["dataset"]["unstructured"])
    found = []
    for place in sorted(folder.glob("seed-*/checkpoint-*.json")):
        edits, seed = int(place.stem.split("-")[1]), int(place.parent.name.split("-")[1])
        rows = checkpoint_rows(place.parent, edits)
        found.append(Checkpoint(seed, edits, _document(place), summarise(rows, edits, unstructured=unstructured)))
    if not found:
        raise DataError(f"{folder} has no checkpoint yet: let its run reach one, with horen bench run --resume.")
    return Result(folder, manifest, tuple(sorted(found, key=lambda item: (item.seed, item.edits))))


def compare(first: Result, second: Result) -> dict[str, Any]:
    """Return the differences of two runs on the same records, at the last checkpoint that both have.

    Raises:
        DataError: when they are about other data, or share no checkpoint.
    """
    for run in (first, second):
        if run.folder.is_file():
            raise DataError(f"{run.folder} holds scores alone, and runs are compared by their rows: give its folder.")
    if first.manifest["dataset"]["sha256"] != second.manifest["dataset"]["sha256"]:
        raise DataError(f"{first.folder} and {second.folder} are about other data: compare runs on one file.")
    shared = sorted(set(first.stops) & set(second.stops))
    seeds = sorted({c.seed for c in first.checkpoints} & {c.seed for c in second.checkpoints})
    if not shared or not seeds:
        raise DataError(f"{first.folder} and {second.folder} have no checkpoint in common: run both as far.")
    edits = shared[-1]
    seeds = [s for s in seeds if all(any(c.seed == s for c in run.at(edits)) for run in (first, second))]
    left, right = (_pooled(run.folder, edits, seeds) for run in (first, second))
    main = "rouge_l" if first.manifest["dataset"]["unstructured"] else "exact"
    differences = {
        "reliability": _difference(left, right, (PROMPT,), main),
        "generalization": _difference(left, right, (REPHRASE,), main),
        "locality": _difference(left, right, NEGATIVES, "identical"),
    }
    return {"first": first.name, "second": second.name, "edits": edits, "seeds": seeds, "difference": differences}


def _difference(
    left: dict[int, list[Row]], right: dict[int, list[Row]], kinds: Sequence[str], score: str
) -> dict[str, Any]:
    ours, theirs = (_values(rows, kinds, score) for rows in (left, right))
    both = [key for key in ours if key in theirs]
    return asdict(difference([ours[key] for key in both], [theirs[key] for key in both], seed=0))


def _values(rows: dict[int, list[Row]], kinds: Sequence[str], score: str) -> dict[int, float]:
    """Return a score of each record, averaged over the seeds: orders of one stream are no independent records."""
    found: dict[int, list[float]] = {}
    for some in rows.values():
        for number, value in per_record((row for row in some if row.kind in kinds), score).items():
            found.setdefault(number, []).append(value)
    return {number: sum(values) / len(values) for number, values in found.items()}


def _pooled(folder: Path, edits: int, seeds: Sequence[int]) -> dict[int, list[Row]]:
    return {seed: checkpoint_rows(folder / f"seed-{seed}", edits) for seed in seeds}


def _document(place: Path) -> dict[str, Any]:
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{place} cannot be read ({error}): restore it from a copy, or run the plan anew.") from error
    return dict(document)
