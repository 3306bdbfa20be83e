"""How far a query may turn from its stored pattern and still come home, by rule of retrieval and size of the codebook.

    python benchmarks/basins.py --dataset zsre --data zsre_mend_train_10000.json --edits 100 1000 9965 --out basins.json

Keys are those of the edit prompts. Queries are keys that were turned by an angle, in a random direction or straight at
the nearest other key; a rule brings one home when its own key is the nearest afterwards. Beside it stands how many of
the records' rephrases come home. No value is trained.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import normalize

from horen import Editor, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.plan import circumstances
from horen.edits import same_text
from horen.memory.hopfield import hopfield_step
from routing import Router

Rule = Callable[[Tensor, Tensor], Tensor]

_ANGLES = (20, 30, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85)  # degrees
_QUERIES = 500
_HOME = 0.99  # share of queries that come home within the basin


def steps(alpha: float, beta: float | None, count: int) -> Rule:
    """Return damped Hopfield steps; without β with one giving the best of N keys half the weight at a lead of 0.2."""

    def rule(queries: Tensor, keys: Tensor) -> Tensor:
        strength = beta if beta is not None else math.log(max(len(keys) - 1, 2)) / 0.2
        for _ in range(count):
            queries, _ = hopfield_step(queries, keys, alpha=alpha, beta=strength)
        return queries

    return rule


def sparse(alpha: float, beta: float, nearest: int) -> Rule:
    """Return one damped step whose read-out is of the nearest keys alone."""

    def rule(queries: Tensor, keys: Tensor) -> Tensor:
        scores, index = (queries @ keys.T).topk(min(nearest, len(keys)), dim=-1)
        weights = (beta * scores).softmax(-1)
        readout = normalize((weights[..., None] * keys[index]).sum(1), dim=-1)
        return normalize(torch.lerp(queries, readout, alpha), dim=-1)

    return rule


RULES: dict[str, Rule] = {
    "no step": lambda queries, _: queries,
    "published: alpha 0.1, beta 20, one step": steps(0.1, 20.0, 1),
    "alpha 0.5, beta 20, one step": steps(0.5, 20.0, 1),
    "alpha 0.5, beta 20, five steps": steps(0.5, 20.0, 5),
    "alpha 0.5, beta 100, five steps": steps(0.5, 100.0, 5),
    "alpha 0.5, beta by N, one step": steps(0.5, None, 1),
    "alpha 0.5, beta by N, five steps": steps(0.5, None, 5),
    "alpha 0.5, beta 20, nearest 8, one step": sparse(0.5, 20.0, 8),
}


def turned(keys: Tensor, towards: Tensor, degrees: float) -> Tensor:
    """Return [n, d] unit keys, turned by an angle in the direction of other [n, d] vectors."""
    across = normalize(towards - (towards * keys).sum(-1, keepdim=True) * keys, dim=-1)
    angle = math.radians(degrees)
    return math.cos(angle) * keys + math.sin(angle) * across


def home(rule: Rule, queries: Tensor, keys: Tensor, own: Tensor) -> float:
    """Return the share of [n, d] queries whose own key is the nearest after the rule."""
    found = [
        (rule(some, keys) @ keys.T).argmax(-1) == mine
        for some, mine in zip(queries.split(250), own.split(250), strict=True)
    ]
    return float(torch.cat(found).float().mean())


def basin(rule: Rule, keys: Tensor, own: Tensor, towards: Tensor) -> int:
    """Return the greatest angle of the grid up to which the queries come home."""
    reached = 0
    for angle in _ANGLES:
        if home(rule, turned(keys[own], towards, angle), keys, own) < _HOME:
            break
        reached = angle
    return reached


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="zsre")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edits", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    dataset = load(given.dataset, given.data, limit=max(given.edits))
    records = list({same_text(record.prompt): record for record in dataset.records}.values())
    router = Router(Editor.from_pretrained(given.model, HorenConfig.from_preset(given.preset), device=given.device))
    all_keys = torch.cat([rows[:1] for rows in router.features([record.prompt for record in records])])
    asked = [i for i, record in enumerate(records) if record.rephrases]
    all_queries = torch.cat([rows[:1] for rows in router.features([records[i].rephrases[0] for i in asked])])
    told = {name: value for name, value in vars(given).items() if name not in {"data", "out"}}
    results = []
    for count in given.edits:
        keys = all_keys[:count]
        generator = torch.Generator().manual_seed(0)
        own = torch.randperm(len(keys), generator=generator)[:_QUERIES].to(keys.device)
        scores = keys[own] @ keys.T
        scores[torch.arange(len(own)), own] = -torch.inf
        directions = {
            "at random": torch.randn(len(own), keys.shape[1], generator=generator).to(keys),
            "at the nearest": keys[scores.argmax(-1)],
        }
        places = torch.tensor([i for i in asked if i < count], device=keys.device)
        queries = all_queries[: len(places)]
        for name, rule in track(RULES.items(), description=f"{count} edits"):
            found = {way: basin(rule, keys, own, towards) for way, towards in directions.items()}
            results.append(
                {"edits": len(keys), "rule": name, "basin": found, "home": home(rule, queries, keys, places)}
            )
    manifest = {"arguments": told, **circumstances(dataset, given.device)}
    write_text(given.out, json.dumps({"manifest": manifest, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
