"""What a benchmark run does: its settings, its stream of edits, its checkpoints and its manifest."""

from __future__ import annotations

import hashlib
import os
import platform
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import horen
from horen.bench.asking import Stored
from horen.bench.records import Dataset, Record
from horen.edits import same_text
from horen.errors import DataError

MANIFEST = "manifest.json"
CHECKPOINTS = (1, 10, 100, 1_000, 10_000, 50_000, 100_000, 1_000_000)
_PACKAGES = ("horen", "torch", "transformers", "scipy", "scikit-learn", "rouge-score", "sacrebleu", "numba")
_CPUINFO = Path("/proc/cpuinfo")
# Of x86 and Arm: wide registers, products of bytes, products of bfloat16.
_FEATURES = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve"),
)
_BUDGET, _LONG_BUDGET, _DETAIL_BUDGET = 24, 256, 64


@dataclass(frozen=True)
class Plan:
    """Settings of a run; two runs with equal plans measure the same thing.

    Attributes:
        dataset: name of the format.
        path: of the data set, as given.
        method: name of the editor.
        model: an embedded name, a folder, a GGUF file or a hub id.
        preset: of the editor's settings.
        settings: changes to them.
        edits: length of the stream.
        skip: usable records left out at the file's beginning.
        batch: edits applied in one call.
        sample: most edits scored at a checkpoint; 0 scores all of them.
        seeds: orders of the stream: seed 0 is the file's, others are shuffled.
        budget: most new tokens of an answer; 0 takes 24, or for unstructured targets 256 and for short questions about
            them 64.
        text: file of held-aside text for retention, or None.
        dtype: of the weights.
        device: where the model runs.
        intermediate: whether scores are taken on the way as well, not after the last edit alone.
    """

    dataset: str
    path: str
    method: str
    model: str = "smollm2-135m-instruct"
    preset: str = "default"
    settings: dict[str, Any] = field(default_factory=dict)
    edits: int = 1_000
    skip: int = 0
    batch: int = 1
    sample: int = 0
    seeds: int = 1
    budget: int = 0
    text: str | None = None
    dtype: str = "auto"
    device: str | None = None
    intermediate: bool = True

    def __post_init__(self) -> None:
        low = {"edits": 1, "skip": 0, "batch": 1, "sample": 0, "seeds": 1, "budget": 0}
        for name, least in low.items():
            given = getattr(self, name)
            if given < least:
                raise DataError(f"{name}={given} is not valid: give at least {least}.")

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Numbers of edits after which everything is asked: 1, 10, 100, … and the end of the stream."""
        before = (count for count in CHECKPOINTS if count < self.edits)
        return (*before, self.edits) if self.intermediate else (self.edits,)

    def answer_budget(self, *, unstructured: bool) -> int:
        """Return how many new tokens an answer to an edit's prompt or a rephrase of it may have."""
        return self.budget or (_LONG_BUDGET if unstructured else _BUDGET)

    def detail_budget(self, *, unstructured: bool) -> int:
        """Return how many new tokens an answer to anything else may have, whose right answer is short."""
        return self.budget or (_DETAIL_BUDGET if unstructured else _BUDGET)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def stream(records: Sequence[Record], count: int, seed: int) -> tuple[Record, ...]:
    """Return the first ``count`` records, in the file's order for seed 0 and shuffled by the seed otherwise.

    Every seed edits the same facts.
    """
    chosen = list(records[:count])
    if seed:
        random.Random(seed).shuffle(chosen)  # noqa: S311 - an order, not a secret
    return tuple(chosen)


def batches(edits: Sequence[Record], size: int, stops: Sequence[int], start: int = 0) -> Iterator[Sequence[Record]]:
    """Yield batches of consecutive edits from ``start`` on; one ends at every stop, no prompt is twice in one.

    The latter keeps the stream strictly sequential: the later of two contradicting edits finds the earlier one stored.
    """
    batch: list[Record] = []
    ends = set(stops)
    for position in range(start, len(edits)):
        record = edits[position]
        if any(same_text(record.prompt) == same_text(other.prompt) for other in batch):
            yield batch
            batch = []
        batch.append(record)
        if len(batch) == size or position + 1 in ends:
            yield batch
            batch = []
    if batch:
        yield batch


def in_force(edits: Sequence[Record], count: int, sample: int, seed: int) -> list[Stored]:
    """Return the records whose edits hold after ``count`` of the stream, by position: a prompt's latest.

    With ``sample`` so many of them are drawn, evenly by chance and by the seed alone.
    """
    latest: dict[str, Stored] = {}
    for position, record in enumerate(edits[:count]):
        latest[same_text(record.prompt)] = Stored(record, position)
    held = sorted(latest.values(), key=lambda item: item.position)
    if sample and len(held) > sample:
        drawn = random.Random(f"{seed}/{count}").sample(held, sample)  # noqa: S311
        held = sorted(drawn, key=lambda item: item.position)
    return held


def manifest(plan: Plan, dataset: Dataset) -> dict[str, Any]:
    """Return what was run, on what data, with which packages, on which machine."""
    return {"plan": plan.to_dict()} | circumstances(dataset, plan.device)


def circumstances(dataset: Dataset, device: str | None) -> dict[str, Any]:
    """Return a data set's hash and counts, the code's hash, the packages and the machine."""
    return {
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "usable": len(dataset.records),
            "rejected": len(dataset.rejected),
            "first_rejected": [asdict(item) for item in dataset.rejected[:20]],
            "unstructured": dataset.unstructured,
        },
    } | environment(device)


def environment(device: str | None = None) -> dict[str, Any]:
    """Return the code's hash, the packages and the machine."""
    return {
        "code": _code(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "machine": _machine(device),
    }


def _code() -> str:
    """SHA-256 of the package's own source, which tells apart what a version number does not."""
    root = Path(horen.__file__).parent
    digest = hashlib.sha256()
    for place in sorted(root.rglob("*.py")):
        digest.update(place.relative_to(root).as_posix().encode() + b"\0" + place.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine(device: str | None) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device is not None and device.startswith("cuda") else None
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        **_processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device or "cpu",
        "gpu": name,
    }


def _processor() -> dict[str, Any]:
    """Return the processor's name, and what it has for the products that are made here, where the system says so."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"cpu": None, "features": []}
    pairs = (line.partition(":") for line in lines)
    told = {name.strip(): value.strip() for name, _, value in pairs}
    has = told.get("flags", told.get("Features", "")).split()
    return {"cpu": told.get("model name"), "features": [name for name in _FEATURES if name in has]}
