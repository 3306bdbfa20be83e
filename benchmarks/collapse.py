"""How long every editor lasts: overall against the number of edits, a panel for each family of editors.

    cd benchmarks/results
    python ../collapse.py zsre zsre-batch-100/unke.json --out ../../docs/collapse.svg

HoReN's default is drawn in every panel. Dashed lines are runs with published settings.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from horen.asking.drawing import INK, colour, dress, new_figure
from horen.bench.files import write_text
from horen.bench.results import Result, read

OURS = "horen-activations"
PANELS = {
    "fine-tuning, learned and closed-form editors": ("ft", "lora", "mend", "ultraedit"),
    "locate, then edit; unke": ("rome", "memit", "alphaedit", "unke"),
    "memories beside the weights": ("horen-paper", "cosine", "grace", "grace-tuned", "wise", "defer"),
    "in context": ("retrieval", "ike", "none"),
}
# Read on white and on black: an image does not see the page's colours.
GREY = "#7d8590"


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", type=Path, nargs="+", help="scores that benchmarks/suite.py left: folders, files")
    parser.add_argument("--out", type=Path, required=True, help="an .svg file")
    given = parser.parse_args()
    files = [file for place in given.places for file in (sorted(place.glob("*.json")) if place.is_dir() else [place])]
    found = {file.stem: read(file) for file in files}
    figure = new_figure((10.4, 6.4))
    figure.patch.set_alpha(0)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (title, names) in zip(panels, PANELS.items(), strict=True):
        shown = [OURS, *(name + end for name in names for end in ("", "-paper") if name + end in found)]
        draw(axes, title, {name: found[name] for name in dict.fromkeys(shown)})
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    write_text(given.out, drawn.getvalue().replace(INK, GREY))


def draw(axes: Any, title: str, results: dict[str, Result]) -> None:
    """Draw one family's lines."""
    dress(axes)
    axes.patch.set_alpha(0)
    plain = [name.removesuffix("-paper") for name in results]
    for name, result in results.items():
        place = list(dict.fromkeys(plain)).index(name.removesuffix("-paper"))
        means = [result.spread(stop)["overall"]["mean"] for stop in result.stops]
        published = name.endswith("-paper")
        look = {"linestyle": "--" if published else "-", "color": colour(place), "marker": "o", "markersize": 3.5}
        axes.plot(result.stops, means, label=name, **look)
    axes.set_title(title, color=INK, fontsize=10)
    axes.set(xscale="log", ylim=(-0.02, 1.04))
    stops = sorted({stop for result in results.values() for stop in result.stops})
    axes.set_xticks(stops, [f"{stop:,}" for stop in stops])
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if axes.get_subplotspec().is_last_row():
        axes.set_xlabel("edits")
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("overall")


if __name__ == "__main__":
    main()
