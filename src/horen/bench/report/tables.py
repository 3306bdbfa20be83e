"""The tables of a report, as text; knows neither HTML nor Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from horen.bench.records import PORTABILITY
from horen.bench.results import HEADLINE, Result


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        headers: of the columns.
        rows: as many cells each.
        words: how many of the first columns hold words; the others hold numbers.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval(value: Any) -> str:
    """Return an estimate with its interval, where it has one; or a number."""
    if not isinstance(value, dict):
        return number(value)
    if value["mean"] is None or value["low"] is None:
        return number(value["mean"])
    return f"{number(value['mean'])} [{number(value['low'])}, {number(value['high'])}]"


def headline(results: Sequence[Result], *, every: bool) -> Table:
    """Return headline scores after the last checkpoint, or after every one.

    Brackets are 95 % intervals over records; with several seeds the mean and the range over the seeds are shown.
    """
    rows = []
    for result in results:
        for stop in result.stops if every else result.stops[-1:]:
            given = result.at(stop)
            spread = result.spread(stop)
            cells = [
                _range(spread[name]) if len(given) > 1 else interval(given[0].scores["headline"][name])
                for name in HEADLINE
            ]
            rows.append((result.name, f"{stop:,}", *cells))
    return Table(("run", "edits", *HEADLINE), tuple(rows))


def last_columns(results: Sequence[Result]) -> Table:
    """Return the last checkpoint of each run: the legacy columns, and what routing, time and space say."""
    rows = []
    for result in results:
        last = result.last
        kinds = last.scores["kinds"]
        prompt = kinds["prompt"]
        hops = [kinds[kind]["contains"]["mean"] for kind in PORTABILITY if kind in kinds]
        rows.append(
            (
                result.name,
                number(prompt["agreement"]["mean"]),
                number(prompt["forced"]["mean"]),
                number(prompt["cut"]),
                number(sum(hops) / len(hops) if hops else None),
                _found(last.scores),
                number(last.costs["seconds_an_edit"]),
                number(last.costs["bytes_an_edit"], 0),
            )
        )
    names = ("legacy agreement", "teacher forced", "cut", "portability", "found at 1 %", "s/edit", "bytes/edit")
    return Table(("run", *names), tuple(rows))


def kinds(results: Sequence[Result]) -> Table:
    """Return every score of every kind of question after the last checkpoint."""
    names = ["exact", "contains", "f1", "rouge_1", "rouge_2", "rouge_l", "bleu", "similarity", "identical", "kl"]
    names += ["agreement", "forced"]
    titles = {"rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L", "bleu": "BLEU", "f1": "F1"}
    titles |= {"kl": "KL, nats", "agreement": "legacy agreement", "forced": "teacher forced"}
    present = [
        name
        for name in names
        if any(name in columns for result in results for columns in result.last.scores["kinds"].values())
    ]
    rows = []
    for result in results:
        for kind, columns in result.last.scores["kinds"].items():
            means = [number(columns[name]["mean"]) if name in columns else "–" for name in present]
            shares = [number(columns.get("fired")), number(columns["cut"])]
            rows.append((result.name, kind.replace("_", " "), str(columns["asked"]), *means, *shares))
    return Table(
        ("run", "kind", "asked", *(titles.get(name, name) for name in present), "fired", "cut"), tuple(rows), words=2
    )


def routing(results: Sequence[Result]) -> Table:
    """Return how rephrases are told from each kind of negative, for methods that route."""
    rows = []
    for result in results:
        measured = result.last.scores.get("routing", {}).get("rephrase", {})
        for kind, item in measured.get("kinds", {}).items():
            found = [number(point["generalization"]) for point in item["points"]]
            rows.append(
                (
                    result.name,
                    kind.replace("_", " "),
                    number(measured["top_1"]),
                    number(measured["right_fire_rate"]),
                    number(item["false_fire_rate"]),
                    number(item["area"]),
                    *found,
                )
            )
    headers = ("run", "negatives", "top-1", "woken", "false fires", "area", "at 0.1 %", "at 1 %", "at 5 %")
    return Table(headers, tuple(rows), words=2)


def ages(results: Sequence[Result]) -> Table:
    """Return headline scores of old and new edits after the last checkpoint."""
    rows = [
        (
            result.name,
            f"{item['newest']:,} to {item['oldest']:,}",
            str(item["records"]),
            number(item["reliability"]),
            number(item["generalization"]),
        )
        for result in results
        for item in result.last.scores["ages"]
        if item["records"]
    ]
    return Table(("run", "edits ago", "records", "reliability", "generalization"), tuple(rows), words=2)


def costs(results: Sequence[Result]) -> Table:
    """Return time, operations, space and retention after the last checkpoint."""
    rows = []
    for result in results:
        found = result.last.costs
        times, kept, flops = found["inference"], found.get("retention", {}), found["flops_an_edit"]
        milliseconds = [number(times[name] * 1e3, 1) for name in ("prefill", "prefill_base", "decode", "decode_base")]
        rows.append(
            (
                result.name,
                number(found["seconds_an_edit"]),
                number(flops and flops / 1e9, 1),
                number(found["bytes_an_edit"], 0),
                *milliseconds,
                number(kept.get("perplexity")),
                number(kept.get("perplexity_base")),
            )
        )
    headers = ("run", "s/edit", "GFLOP/edit", "bytes/edit", "prefill, ms", "untouched", "decode, ms/token", "untouched")
    return Table((*headers, "perplexity", "untouched"), tuple(rows))


def provenance(results: Sequence[Result]) -> Table:
    """Return what was run on what."""
    rows = []
    for result in results:
        made = result.manifest
        machine, versions = made["machine"], made["versions"]
        rows.append(
            (
                result.name,
                f"{made['dataset']['name']} {made['dataset']['sha256'][:12]}",
                f"{made['dataset']['usable']} ({made['dataset']['rejected']} rejected)",
                made["plan"]["model"],
                f"{machine['gpu'] or machine['device']}, {machine['threads']} threads",
                f"horen {versions['horen']} ({made.get('code', '')[:12]})",
                f"{versions['torch']}, {versions['transformers']}",
            )
        )
    headers = ("run", "data", "records", "model", "device", "code", "torch, transformers")
    return Table(headers, tuple(rows), words=len(headers))


def _found(scores: dict[str, Any]) -> str:
    separations = scores.get("routing", {}).get("rephrase", {}).get("kinds", {})
    found = [f"{kind} {number(item['points'][1]['generalization'])}" for kind, item in separations.items()]
    return ", ".join(found) or "–"


def _range(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "–"
    return f"{number(spread['mean'])} ({number(spread['minimum'])} to {number(spread['maximum'])})"
