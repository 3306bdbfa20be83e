"""A store that `horen serve` finds, or makes where there is none."""

from __future__ import annotations

from pathlib import Path

from cli_support import Run

from horen.cli.options import Preset
from horen.cli.stores.serving import _made
from horen.database import Store

HOW = {"dtype": "auto", "device": None}


def test_a_store_is_made_in_a_database_that_is_empty(served: str, tiny: Path):
    assert _made(served, str(tiny), Preset.activations, ["max_steps=1"], HOW)
    with Store.open(served) as store:
        about = store.about()
    assert (about.version, about.edits, about.model) == (0, 0, str(tiny))
    assert about.settings["max_steps"] == 1
    assert not _made(served, str(tiny), None, [], HOW)


def test_a_model_is_asked_for_where_there_is_no_store_and_no_password_is_shown(served: str, run: Run):
    refused = run("serve", served)
    assert refused.exit_code == 1
    assert "--model" in refused.stderr
    assert "geheim" not in refused.stderr


def test_a_store_keeps_its_settings(facts: Path, run: Run):
    refused = run("serve", facts, "--set", "max_steps=1")
    assert refused.exit_code == 1
    assert "settings already" in refused.stderr
