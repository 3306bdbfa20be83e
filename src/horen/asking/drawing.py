"""How drawings look and reach a file; matplotlib, which draws them, is an extra."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from horen.editfiles.atomic import write_whole
from horen.errors import DataError
from horen.extras import need

# After Okabe and Ito: told apart with any colour vision, and lightened or darkened to stand on white and on black.
_COLOURS = ("#0b84c6", "#d55e00", "#009e73", "#cc79a7", "#c98a00", "#56a4d9", "#8a8f98", "#9b6bd3")
#: Nearly black, and used for nothing else, so that a report can replace it by the colour of the text around it.
INK = "#010203"
_SUFFIXES = (".png", ".svg")


def colour(place: int) -> str:
    """Return the colour of the n-th thing that is drawn."""
    return _COLOURS[place % len(_COLOURS)]


def new_figure(size: tuple[float, float]) -> Any:
    """Make a matplotlib figure of so many inches.

    Raises:
        MissingExtraError: when matplotlib is not installed.
    """
    drawing = need("bench", "matplotlib.figure", "Drawings need")
    return drawing.Figure(figsize=size, layout="constrained")


def dress(axes: Any) -> None:
    """Give axes the look of all drawings."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", color=INK, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(alpha=0.25)


def check_place(place: Path) -> None:
    """Refuse a file that a drawing cannot go to, before anything is done for it.

    Raises:
        DataError: when its name does not end in .png or .svg, or its folder is not there.
        MissingExtraError: when matplotlib is not installed.
    """
    if place.suffix.lower() not in _SUFFIXES:
        raise DataError(f"{place} is no name for a drawing: end it in {' or '.join(_SUFFIXES)}.")
    if not place.absolute().parent.is_dir():
        raise DataError(f"The folder {place.parent} does not exist: make it, or choose another place for {place.name}.")
    new_figure((1, 1))


def save(figure: Any, place: Path) -> None:
    """Write a figure into a file, as a whole or not at all, in the format that its name says.

    Raises:
        DataError: when it cannot be written.
    """
    kind = place.suffix.lower().lstrip(".")
    # An SVG would carry the time otherwise, and no two would be alike.
    metadata = {"Date": None} if kind == "svg" else None
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=160, metadata=metadata)
    try:
        write_whole(place, drawn.getvalue())
    except OSError as error:
        raise DataError(f"{place} cannot be written ({error.strerror}): choose another place.") from error
