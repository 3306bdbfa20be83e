"""A report as one page without scripts: tables of every run, and curves of the scores against the number of edits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from horen.bench.files import write_text
from horen.bench.results import HEADLINE, Result
from horen.errors import ModelError

_SIZE = (4.2, 3.0)
# Okabe & Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_DASHES = ("-", "--", "-.", ":")


def write_page(results: Sequence[Result], place: Path) -> None:
    """Write the report of runs into an HTML file.

    Raises:
        ModelError: when matplotlib, which draws the curves, is not installed.
        StoreError: when the file cannot be written.
    """
    environment = Environment(loader=PackageLoader("horen.bench"), autoescape=select_autoescape(["html"]))
    environment.filters["score"] = _score
    page = environment.get_template("report.html").render(
        results=results,
        colours=[_colour(i) for i in range(len(results))],
        curves=[(name, _curve(results, name)) for name in HEADLINE],
        roc=_roc(results),
        headline=HEADLINE,
    )
    write_text(place, page)


def _score(value: Any) -> str:
    if isinstance(value, dict):
        value, low, high = value["mean"], value["low"], value["high"]
        if value is not None and low is not None:
            return f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return "–" if value is None else f"{value:.3f}"


def _curve(results: Sequence[Result], name: str) -> Markup:
    """One headline score of every run against the number of edits, with the range over the seeds."""
    figure, axes = _axes()
    for number, result in enumerate(results):
        spreads = [(stop, result.spread(stop)[name]) for stop in result.stops]
        known = [(stop, spread) for stop, spread in spreads if spread["mean"] is not None]
        if not known:
            continue
        stops = [stop for stop, _ in known]
        axes.plot(stops, [s["mean"] for _, s in known], color=_colour(number), **_line(number))
        low, high = [s["minimum"] for _, s in known], [s["maximum"] for _, s in known]
        axes.fill_between(stops, low, high, alpha=0.15, color=_colour(number), linewidth=0)
    axes.set(xscale="log", xlabel="edits", ylabel=name, ylim=(-0.02, 1.02))
    stops = sorted({stop for result in results for stop in result.stops})
    axes.set_xticks(stops, [f"{stop:,}" for stop in stops])
    axes.set_xticks([], minor=True)
    return _drawn(figure)


def _roc(results: Sequence[Result]) -> list[tuple[str, Markup]]:
    """For each kind of negative, rephrases found against false fires at every threshold, after the last checkpoint."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, result in enumerate(results):
        last = result.at(result.stops[-1])[0].scores
        for kind, item in last.get("routing", {}).get("rephrase", {}).get("kinds", {}).items():
            if item["curve"] is not None:
                found.setdefault(kind, []).append((number, item["curve"]))
    drawn = []
    for kind, curves in found.items():
        figure, axes = _axes()
        for number, curve in curves:
            axes.plot(curve["false_fires"], curve["found"], color=_colour(number), linestyle=_DASHES[number % 4])
        axes.set(xlabel=f"{kind} negatives that fire", ylabel="rephrases found", xlim=(-0.01, 1), ylim=(-0.02, 1.02))
        drawn.append((kind, _drawn(figure)))
    return drawn


def _axes() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as error:
        raise ModelError("The page's curves need matplotlib: install it with `pip install 'horen[bench]'`.") from error
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _line(number: int) -> dict[str, Any]:
    # Runs often coincide at 1.0: dashes and larger rings let the line beneath show.
    return {"linestyle": _DASHES[number % 4], "marker": "o", "markersize": 3 + 1.5 * number, "markerfacecolor": "none"}


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _drawn(figure: Any) -> Markup:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    return Markup(drawing[drawing.index("<svg") :])  # noqa: S704 - matplotlib escapes what it writes
