"""The drawing of a prompt among the edits around it: where it comes to lie, and how their scores compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from horen.asking import drawing
from horen.asking.drawing import INK, colour, dress
from horen.asking.explain import check_nearest, entries_of, explanation, surroundings
from horen.asking.recall import told
from horen.edits import ASKS, Explanation, Near
from horen.errors import EditError
from horen.memory import Surroundings, azimuthal
from horen.model.routed import Routed
from horen.session import Session

_WIDTH, _LEAST_HEIGHT, _A_BAR = 9.6, 4.2, 0.5
# So many entries further off are drawn too, to show what the prompt lies among.
_FURTHER = 40
_GREY = "#8a8f98"
_ANY = 180
_LABEL = 46
# Where the names of the nearest edits stand, in points from their keys: close keys keep names apart.
_ASIDE = ((8, 7), (-8, 7), (8, -7), (-8, -7))


def plot(session: Session, text: str, place: Path, *, chat: bool, nearest: int) -> Explanation:
    """Draw a prompt among its neighbours; see :meth:`horen.Editor.plot`."""
    drawing.check_place(place)
    check_nearest(nearest)
    if not nearest:
        raise EditError("nearest=0 leaves nothing to draw: ask for at least one edit.")

    def tell(routed: Mapping[int, Routed]) -> dict[int, tuple[Explanation, Surroundings]]:
        count = entries_of(session, nearest) + _FURTHER
        found = {}
        for number, one in routed.items():
            around = surroundings(session, one, count)
            found[number] = explanation(session, text, one, around, nearest), around
        return found

    (seen,) = told(session, [text], tell, chat=chat, recall=None)
    if seen.told is None:
        raise EditError("There is nothing to draw: no edit is stored.")
    found, around = replace(seen.told[0], recalled=seen.edits), seen.told[1]
    figure = drawing.new_figure((_WIDTH, max(_LEAST_HEIGHT, _A_BAR * len(found.nearest))))
    figure.suptitle(_short(text, 90), color=INK, fontsize=10)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.05))
    owners = [session.history.holder(entry) for entry in around.entries.tolist()]
    keys = session.codebook().read_keys(around.entries)
    _draw_map(left, found, around, keys, [owner.id if owner is not None else 0 for owner in owners], session)
    _draw_scores(right, found)
    drawing.save(figure, place)
    return found


def _draw_map(
    axes: Any, found: Explanation, around: Surroundings, keys: torch.Tensor, owners: list[int], session: Session
) -> None:
    """Draw keys at their angle from the query as it ended, and the way that it came."""
    steps = len(around.path) - 1
    *before, centre = around.path.cpu()  # not every device knows float64
    flat = torch.rad2deg(azimuthal(centre, torch.stack([*keys.cpu(), *before])))
    places = flat[: len(keys)].tolist()
    way = [*flat[len(keys) :].tolist(), [0.0, 0.0]]
    shown = {near.edit_id: rank for rank, near in enumerate(found.nearest)}
    rest = [point for point, owner in zip(places, owners, strict=True) if owner not in shown]
    axes.scatter([x for x, _ in rest], [y for _, y in rest], s=12, color=_GREY, alpha=0.6, linewidths=0)
    named: set[int] = set()
    for point, owner in zip(places, owners, strict=True):
        if owner not in shown:
            continue
        axes.scatter(*point, s=36, color=colour(shown[owner]), linewidths=0, zorder=3)
        if owner not in named:  # its nearest wording comes first
            look = {"fontsize": 9, "color": colour(shown[owner]), "ha": "center", "va": "center"}
            axes.annotate(str(owner), point, xytext=_ASIDE[len(named) % 4], textcoords="offset points", **look)
            named.add(owner)
    axes.plot(*zip(*way, strict=True), color=INK, linewidth=1, marker=".", markersize=4, zorder=4)
    label = f"the prompt after {steps} step{'' if steps == 1 else 's'}"
    axes.scatter(0, 0, marker="x", s=40, color=INK, zorder=5, linewidths=1, label=label)
    reach = _reach(found, session.config.contrast)
    widest = max(math.hypot(x, y) for x, y in places)
    widest = max(widest, reach if reach < _ANY else 0, 1)
    _draw_rings(axes, widest)
    if 0 < reach < _ANY:
        axes.plot(*_ring(reach), color=INK, linewidth=1, linestyle="--", label="threshold of the nearest")
    axes.set(xlim=(-widest * 1.05, widest * 1.05), ylim=(-widest * 1.05, widest * 1.05), aspect="equal")
    axes.axis("off")
    _legend(axes)


def _draw_rings(axes: Any, widest: float) -> None:
    for angle in range(30, int(widest) + 1, 30):
        axes.plot(*_ring(angle), color=_GREY, linewidth=0.6, alpha=0.5, zorder=0)
        axes.text(0, -angle, f"{angle}°", fontsize=7, color=_GREY, ha="center", va="center", backgroundcolor="white")


def _ring(angle: float) -> tuple[list[float], list[float]]:
    turn = [2 * math.pi * i / 180 for i in range(181)]
    return [angle * math.cos(t) for t in turn], [angle * math.sin(t) for t in turn]


def _legend(axes: Any) -> None:
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _reach(found: Explanation, contrast: float) -> float:
    """Return the angle in degrees below which the nearest edit's score exceeds the threshold: 0 for none, 180 for any.

    Where a judge decides there is no such angle, which is told as 0.
    """
    if found.asks is not None:
        return 0.0
    crowd = found.nearest[0].crowd if contrast else 0.0
    return math.degrees(math.acos(max(-1.0, min(1.0, found.threshold + contrast * crowd))))


def _draw_scores(axes: Any, found: Explanation) -> None:
    """Draw a bar for the score of each of the nearest edits, its similarity before and after, and the threshold."""
    ranks = range(len(found.nearest))
    axes.barh(ranks, [near.score for near in found.nearest], color=[colour(rank) for rank in ranks], height=0.55)
    for name, step, mark in (("similarity before", 0, "|"), ("and after", -1, "x")):
        given = [near.similarities[step] for near in found.nearest]
        axes.scatter(given, ranks, marker=mark, s=30, color=INK, linewidths=1, zorder=3, label=name)
    axes.axvline(found.threshold, color=INK, linewidth=1, linestyle="--", label="threshold")
    axes.set_yticks(ranks, [_label(near) for near in found.nearest])
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.yaxis.tick_right()
    axes.invert_yaxis()
    close = " (within the margin)" if found.nearest[0].score > found.threshold else ""
    axes.set(xlabel="score: " + ("the first fires" if found.fired else f"nothing fires{close}"))
    dress(axes)
    axes.grid(visible=False, axis="y")
    _legend(axes)


def _label(near: Near) -> str:
    """Name an edit beside its bar, with what the prompt asks of it."""
    lines = [f"{near.edit_id}  {_short(near.prompt)}", _short(near.target)]
    if near.asks is not None:
        lines.append(f"asked: {ASKS[near.asks]}")
    return "\n".join(lines)


def _short(text: str, width: int = _LABEL) -> str:
    line = " ".join(text.split()).replace("$", r"\$")  # matplotlib sets mathematics between dollars
    return line if len(line) <= width else line[: width - 1] + "…"
