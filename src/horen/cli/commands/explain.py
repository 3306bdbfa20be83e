"""The command that shows why a prompt wakes an edit or does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from horen.cli.options import AnyPlace, AsJson, AtVersion, Device, Dtype, EncoderPlace, ModelPlace, WeightType
from horen.cli.stores.opening import open_place
from horen.cli.terminal import NUMBER, clean, counted, emit, say, show, show_table, status, table
from horen.edits import ASKS, Explanation, Near

if TYPE_CHECKING:
    from horen.config import HorenConfig

_MOST_STEPS = 4


def explain(
    place: AnyPlace,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What would be asked.", show_default=False)],
    chat: Annotated[bool, typer.Option("--chat", help="Read it as a message in a chat.")] = False,
    nearest: Annotated[int, typer.Option(min=1, metavar="N", help="How many of the nearest edits to show.")] = 5,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the prompt among its neighbours: .png or .svg."),
    ] = None,
    version: AtVersion = None,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Show why a prompt wakes an edit, or why it wakes none.

    For each of the nearest edits: the similarity of the prompt before and after every Hopfield step, that of the crowd
    (the nearest edits with other values), and the score, which is the similarity less the hubness correction
    (setting contrast). The nearest edit fires if its score exceeds the threshold. --plot needs the extra "bench".

    \b
    Examples:
      horen explain facts "Who runs Larkspur Cloud?"
      horen explain facts "Who runs Larkspur Cloud?" --plot why.png
    """
    if plot is not None:
        from horen.asking.drawing import check_place  # noqa: PLC0415

        if len(prompts) > 1:
            raise typer.BadParameter("--plot draws one prompt: give one.")
        check_place(plot)
    editor = open_place(place, model, dtype.value, device, encoder=encoder, version=version)
    with status("Reading …"):
        if plot is not None:
            found = [editor.plot(prompts[0], plot, chat=chat, nearest=nearest)]
        else:
            found = editor.explain(prompts, chat=chat, nearest=nearest)
    if as_json:
        emit([dataclasses.asdict(item) for item in found])
        return
    for i, item in enumerate(found):
        if i:
            show("")
        show(clean(item.text), style="bold")
        show_decision(item, editor.config)
        if item.nearest:
            show("")
            _show_nearest(item)
    if plot is not None:
        say(f"Drawn in {plot}.")


def show_decision(found: Explanation, config: HorenConfig) -> None:
    """Say which edit is nearest to a text and why it fires or not, in a few lines."""
    if found.edit_id is None or found.similarity is None or found.raw_similarity is None or found.score is None:
        show("  nearest    none: nothing is stored")
        return
    word, sign = "fired" if found.fired else "did not fire", ">" if found.score > found.threshold else "<="
    show(f"  nearest    edit {found.edit_id}: {clean(found.prompt or '')} -> {clean(found.target or '')}")
    less = ""
    if found.asks is not None:
        show(f"  asks       {ASKS[found.asks]}")
    elif config.contrast and found.nearest:
        less = f" less {config.contrast:g} of the crowd's {found.nearest[0].crowd:.3f}"
    show(
        f"  {word}: score {found.score:.3f} {sign} threshold {found.threshold:.3f} (similarity {found.similarity:.3f}"
        f"{less}, raw {found.raw_similarity:.3f})"
    )
    if found.recalled:
        edits = ", ".join(f"edit {number}" for number in found.recalled)
        show(f"  recalls    puts {counted(len(found.recalled), 'fact')} before the prompt: {edits}")
    if found.words is not None and found.words != found.text:
        show(f"  read       {clean(found.words)}")
    if found.runner_up is not None and found.runner_up_similarity is not None:
        close = not found.fired and found.score > found.threshold
        show(
            f"  runner-up  edit {found.runner_up}: similarity {found.runner_up_similarity:.3f}"
            + (f", nearer than the margin of {found.margin:g}" if close else "")
        )


def _show_nearest(found: Explanation) -> None:
    """Show a line for each of the nearest edits; the one that fired is bold."""
    last = len(found.nearest[0].similarities) - 1
    # Of many steps the first and the last ones tell enough.
    steps = [i for i in range(last + 1) if last <= _MOST_STEPS or i < 2 or i > last - 2]
    headers = [
        ("edit", NUMBER),
        *(("before" if i == 0 else f"step {i}", NUMBER) for i in steps),
        ("asks", {}) if found.asks else ("crowd", NUMBER),
        ("score", NUMBER),
        ("prompt", {"ratio": 3}),
        ("target", {"ratio": 2}),
    ]
    rows = []
    for place, near in enumerate(found.nearest):
        style = "bold" if place == 0 and found.fired else ""
        rows.append([Text(clean(cell), style=style) for cell in _cells(near, steps)])
    show_table(table(headers, rows))


def _cells(near: Near, steps: list[int]) -> list[str]:
    similarities = [f"{near.similarities[i]:.3f}" for i in steps]
    beside = near.asks or f"{near.crowd:.3f}"
    return [str(near.edit_id), *similarities, beside, f"{near.score:.3f}", near.prompt, near.target]
