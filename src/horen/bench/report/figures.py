"""The drawings of a report, as SVG without a background, in the colour of the text around them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from horen.asking.drawing import INK, colour, dress, new_figure
from horen.bench.asking import PROMPT, REPHRASE, Row
from horen.bench.records import NEGATIVES
from horen.bench.results import HEADLINE, Result

_SIZE = (2.95, 2.3)
_DASHES = ("-", "--", "-.", ":")
_BINS = 40
_SIMILAR = (PROMPT, REPHRASE, *NEGATIVES)


def key(results: Sequence[Result]) -> tuple[str, str]:
    """Return which line is which run's."""
    figure, axes = _axes((_SIZE[0], 0.3 * len(results) + 0.2))
    lines = [axes.plot([], [], label=result.name, **_line(place))[0] for place, result in enumerate(results)]
    figure.delaxes(axes)
    figure.legend(handles=lines, frameon=False, fontsize=9, labelcolor=INK, loc="center left", handlelength=4)
    return f"the lines: {', '.join(result.name for result in results)}", _drawn(figure)


def curves(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return each headline score against the number of edits, with the range over seeds: name and drawing."""
    drawn = []
    for name in HEADLINE:
        figure, axes = _axes()
        for place, result in enumerate(results):
            spreads = [(stop, result.spread(stop)[name]) for stop in result.stops]
            known = [(stop, spread) for stop, spread in spreads if spread["mean"] is not None]
            if not known:
                continue
            stops = [stop for stop, _ in known]
            axes.plot(stops, [s["mean"] for _, s in known], **_line(place))
            low, high = [s["minimum"] for _, s in known], [s["maximum"] for _, s in known]
            axes.fill_between(stops, low, high, alpha=0.15, color=colour(place), linewidth=0)
        axes.set(ylabel=name, ylim=(-0.02, 1.02))
        _over_edits(axes, results)
        drawn.append((f"{name} against the number of edits", _drawn(figure)))
    return drawn


def by_age(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return reliability and generalization by how many edits ago an edit was made, at the last checkpoint."""
    drawn = []
    for name in ("reliability", "generalization"):
        figure, axes = _axes()
        most = 1
        for place, result in enumerate(results):
            known = [(item["oldest"], item[name]) for item in result.last.scores["ages"] if item[name] is not None]
            most = max([most, *(age for age, _ in known)])
            axes.plot([age for age, _ in known], [value for _, value in known], **_line(place))
        axes.set(xscale="log", xlabel="made so many edits ago, or fewer", ylabel=name, ylim=(-0.02, 1.02))
        axes.set_xlim(5, most * 1.5)
        drawn.append((f"{name} by the age of an edit", _drawn(figure)))
    return drawn


def roc(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return rephrases found against false fires at every threshold, by kind of negative, at the last checkpoint."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for place, result in enumerate(results):
        kinds = result.last.scores.get("routing", {}).get("rephrase", {}).get("kinds", {})
        for kind, item in kinds.items():
            if item["curve"] is not None:
                found.setdefault(kind, []).append((place, item["curve"]))
    drawn = []
    for kind, given in found.items():
        figure, axes = _axes()
        for place, curve in given:
            axes.plot(curve["false_fires"], curve["found"], color=colour(place), linestyle=_dash(place))
        title = f"{kind.replace('_', ' ')} negatives that fire"
        axes.set(xlabel=title, ylabel="rephrases found", xlim=(-0.01, 1), ylim=(-0.02, 1.02))
        drawn.append((f"rephrases found against {title}", _drawn(figure)))
    return drawn


def histograms(rows: Sequence[Row]) -> str | None:
    """Return how near prompts, rephrases and each kind of negative come to an edit; None without routes.

    The line is the threshold: what lies to its right fired, what lies to its left did not.
    """
    kinds = {kind: [r.score for r in rows if r.kind == kind and r.score is not None] for kind in _SIMILAR}
    kinds = {kind: scores for kind, scores in kinds.items() if scores}
    if not kinds:
        return None
    figure, axes = _axes()
    everything = [score for scores in kinds.values() for score in scores]
    low, high = min(everything), max(everything)
    for place, (kind, scores) in enumerate(kinds.items()):
        # Kinds differ in number: shares, not counts, can be set against each other.
        weights = [1 / len(scores)] * len(scores)
        look = {"histtype": "step", "color": colour(place), "linestyle": _dash(place)}
        bins = {"bins": _BINS, "range": (low, high if high > low else low + 1)}
        axes.hist(scores, weights=weights, label=kind.replace("_", " "), **bins, **look)
    threshold = threshold_of(rows)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1)
    axes.set(xlabel="score of the nearest edit", ylabel="share")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return _drawn(figure)


def threshold_of(rows: Sequence[Row]) -> float | None:
    """Return the score between what fired and what did not; None where they overlap or one is missing."""
    fired = [row.score for row in rows if row.score is not None and row.fired]
    rest = [row.score for row in rows if row.score is not None and row.fired is False]
    if not fired or not rest or min(fired) < max(rest):
        return None
    return (min(fired) + max(rest)) / 2


def costs(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what an edit and an answer cost against the number of edits stored."""

    def over(top: str, bottom: str) -> Any:
        return lambda found: found["inference"][top] / found["inference"][bottom]

    wanted = (
        ("seconds an edit", lambda found: found["seconds_an_edit"]),
        ("bytes an edit", lambda found: found["bytes_an_edit"] or None),
        ("prefill, times the untouched", over("prefill", "prefill_base")),
        ("decoding, times the untouched", over("decode", "decode_base")),
    )
    drawn = []
    for name, value in wanted:
        figure, axes = _axes()
        for place, result in enumerate(results):
            known = [(stop, value(result.at(stop)[0].costs)) for stop in result.stops]
            known = [(stop, cost) for stop, cost in known if cost is not None]
            axes.plot([stop for stop, _ in known], [cost for _, cost in known], **_line(place))
        axes.set(ylabel=name)
        axes.set_ylim(bottom=0)
        _over_edits(axes, results)
        drawn.append((f"{name} against the number of edits", _drawn(figure)))
    return drawn


def _over_edits(axes: Any, results: Sequence[Result]) -> None:
    stops = sorted({stop for result in results for stop in result.stops})
    axes.set(xscale="log", xlabel="edits")
    axes.set_xticks(stops, [f"{stop:,}" for stop in stops])
    axes.set_xticks([], minor=True)


def _axes(size: tuple[float, float] = _SIZE) -> tuple[Any, Any]:
    figure = new_figure(size)
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    dress(axes)
    return figure, axes


def _line(place: int) -> dict[str, Any]:
    # Runs often coincide at 1.0: dashes and larger rings let the line beneath show.
    ring = {"marker": "o", "markersize": 3 + 1.5 * (place % 8), "markerfacecolor": "none"}
    return {"color": colour(place), "linestyle": _dash(place), **ring}


def _dash(place: int) -> str:
    # Colours come again after eight: then with another dash.
    return _DASHES[(place + place // 8) % 4]


def _drawn(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :].replace(INK, "currentColor")
