"""The command that tells what can be set."""

from __future__ import annotations

import dataclasses

import pytest
from cli_support import Ok, Run

from horen import HorenConfig
from horen.cli.options import Preset


@pytest.mark.parametrize("columns", [None, 80, 30])
def test_every_setting_is_listed_with_its_meaning(columns: int | None, run: Run):
    result = run("settings", columns=columns)
    assert result.exit_code == 0
    text = "".join(result.stdout.split())
    for item in HorenConfig.describe():
        assert item.name in text
        assert item.decides.replace(" ", "")[1:] in text
        if columns is None:
            assert "".join(item.help.split()) in text
    assert columns is None or max(map(len, result.stdout.splitlines())) <= max(columns, 60)


def test_one_line_a_setting_where_no_terminal_is(run: Run):
    lines = {line.split()[0]: line for line in run("settings").stdout.splitlines() if line.strip()}
    assert "0.5" in lines["threshold"]
    assert "at least -1 and at most 1" in lines["threshold"]
    assert "one of exact, approximate" in lines["index"]
    assert "*" not in "".join(lines.values())


@pytest.mark.parametrize("preset", list(Preset))
def test_values_of_a_preset(preset: Preset, run: Run, ok: Ok):
    values = HorenConfig.from_preset(preset.value).to_dict()
    found = ok("settings", "--preset", preset.value)
    assert {item["name"]: item["value"] for item in found} == values
    assert set(found[0]) == {field.name for field in dataclasses.fields(HorenConfig.describe()[0])}
    marked = {line.split()[0] for line in run("settings", "--preset", preset.value).stdout.splitlines() if "* " in line}
    assert marked == {name for name, value in values.items() if value != getattr(HorenConfig(), name)}


def test_presets_of_the_command_line_are_those_of_the_settings():
    assert {preset.value for preset in Preset} == set(HorenConfig.presets)


def test_an_unknown_preset(run: Run):
    result = run("settings", "--preset", "papper")
    assert (result.exit_code, result.stdout) == (2, "")
    told = "Error: Invalid value for '--preset': 'papper' is not one of 'default', 'activations', 'paper', 'text'."
    assert result.stderr.splitlines()[-1] == told
