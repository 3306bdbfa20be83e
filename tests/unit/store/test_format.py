"""The number of the format follows what a folder holds, so that an older release can say that it is too old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from horen import Editor, HorenConfig
from horen.store import additions, content, read_folder
from support.editor_support import busy_editor
from support.editors import outputs, same
from support.encoders import text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

# What folders of the present format hold. Whoever changes this raises FORMAT and puts the new number here: a release
# that knows the old number alone then asks for an upgrade, in the place of an error about a name it never heard of.
NUMBER, COMPACTED, GROWN = 2, 3, 4
SETTINGS = """
alpha batch_tokens beta contexts contrast encoder epsilon feature_power index index_candidates key_dimension
key_space learning_rate learning_rate_unit lora_rank margin max_steps neighbours optimizer precision preset read_share
read_sites read_weight recall recall_tokens scope similar_threshold start steps stop_probability threshold train_end
value value_storage value_tokens write_layer"""
CONFIG = "edits encoder model saved settings"
MODEL = "fingerprint revision source"
TENSORS = "key_space.map key_space.mean keys token_weights value_of value_scales values"
LINE = "at edit operation removed sequence undoes"
ONLY_COMPACTED = "dropped"
EDIT = "converged created entries id left loss prompt rephrases replaces reused steps target value"

EVERYTHING: tuple[dict[str, Any], ...] = (
    {
        "key_space": "whitened",
        "read_weight": "rare",
        "read_sites": "layer_output@0+auto@0",
        "value_storage": "int8",
        "threshold": 0.6,
    },
    text_settings(value_tokens=1),
)


def number_of(folder: Path) -> int:
    number: int = json.loads((folder / "config.json").read_text())["format"]
    return number


def test_the_number_follows_what_is_written(tmp_path: Path):
    found: dict[str, set[str]] = {name: set() for name in ("config", "model", "tensors", "line", "edit")}
    for number, settings in enumerate(EVERYTHING):
        busy_editor(**settings).save(tmp_path / str(number))
        folder = read_folder(tmp_path / str(number))
        assert sorted(folder.config["settings"]) == sorted(HorenConfig().to_dict()) == SETTINGS.split()
        found["config"].update(folder.config)
        found["model"].update(folder.config["model"])
        found["tensors"].update(folder.tensors)
        assert number_of(tmp_path / str(number)) == NUMBER
        for line in folder.records:
            found["line"].update(line)
            found["edit"].update(line.get("edit", {}))
    expected = {"config": CONFIG, "model": MODEL, "tensors": TENSORS, "line": LINE, "edit": EDIT}
    assert {name: sorted(some) for name, some in found.items()} == {k: v.split() for k, v in expected.items()}
    assert content.FORMAT == GROWN


def test_only_a_compacted_folder_has_the_number_of_those(tmp_path: Path):
    editor = busy_editor()
    editor.compact()
    editor.save(tmp_path / "book")
    assert number_of(tmp_path / "book") == COMPACTED
    folder = read_folder(tmp_path / "book")
    assert sorted({name for line in folder.records for name in line}) == sorted([*LINE.split(), ONLY_COMPACTED])
    assert sorted({name for line in folder.records for name in line.get("edit", {})} | {"left"}) == EDIT.split()


def test_only_a_folder_with_additions_has_the_number_of_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 1.0)
    editor = busy_editor()
    for expected in (NUMBER, NUMBER, GROWN, GROWN):
        if expected == GROWN:
            editor.undo()
        editor.save(tmp_path / "book")
        assert number_of(tmp_path / "book") == expected
    editor.save(tmp_path / "another")
    assert number_of(tmp_path / "another") == NUMBER


@pytest.mark.parametrize("settings", EVERYTHING, ids=["activations", "text"])
def test_folders_of_the_first_format_answer_as_they_did(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    editor = busy_editor(**settings)
    with monkeypatch.context() as before:
        before.setattr(content, "USUAL", 1)
        editor.save(tmp_path / "book")
    assert number_of(tmp_path / "book") == 1
    again = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer(), encoder=settings.get("encoder"))
    assert same(outputs(again), outputs(editor))
    assert again.history() == editor.history()
