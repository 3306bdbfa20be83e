"""The command that tells what can be set."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

from horen.cli.options import AsJson, Preset
from horen.cli.terminal import emit, show, show_table, table
from horen.config import HorenConfig
from horen.config.settings import Described

_WRAPPED: dict[str, Any] = {"no_wrap": False, "overflow": "fold"}


def settings(
    preset: Annotated[
        Preset, typer.Option("--preset", help="Whose values to show; * marks those that differ from the defaults.")
    ] = Preset.default,
    as_json: AsJson = False,
) -> None:
    """List all settings.

    Of each its value, what it may be and what it means, by what they decide.
    "horen edit --set NAME=VALUE" sets one for a new codebook, "horen rekey DIR --set NAME=VALUE" for one that has edits
    already, unless values are trained with it.

    \b
    Examples:
      horen settings
      horen settings --preset paper
    """
    found = HorenConfig.describe(preset.value)
    if as_json:
        emit([dataclasses.asdict(item) for item in found])
        return
    for decides in (*HorenConfig.decisions.values(), ""):
        group = [item for item in found if item.decides == decides]
        show(f"{decides[:1].upper()}{decides[1:]}" or "Where these settings come from", style="bold")
        headers = ("setting", "value", ("type", {"ratio": 2, **_WRAPPED}), ("meaning", {"ratio": 5, **_WRAPPED}))
        show_table(table(headers, map(_cells, group)))
        show("")


def _cells(item: Described) -> tuple[str, str, str, str]:
    value = item.value if isinstance(item.value, str) else json.dumps(item.value)
    changed = "" if item.value == item.default else "*"
    return item.name, value + changed, ", ".join(filter(None, (item.type, item.allowed))), item.help
