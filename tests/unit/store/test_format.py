"""The number of the format follows what a folder holds, so that an older release can say that it is too old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from horen import Edit, Editor, HorenConfig
from horen.store import additions, content, read_folder
from horen.store.history import History
from horen.store.operations import Operation
from support.editor_support import busy_editor
from support.editors import outputs, same
from support.encoders import text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

# What folders of the present format hold. Whoever changes this raises FORMAT and puts the new number here: a release
# that knows the old number alone then asks for an upgrade, in the place of an error about a name it never heard of.
NUMBER, COMPACTED, GROWN, PACKED, FOLLOWING = 2, 3, 4, 5, 6
SETTINGS = """
alpha batch_tokens beta contexts contrast encoder epsilon feature_power index index_candidates key_dimension
key_space key_storage learning_rate learning_rate_unit lora_rank margin max_steps neighbours optimizer precision preset
read_share
read_sites read_weight recall recall_tokens scope similar_threshold start steps stop_probability threshold train_end
value value_storage value_tokens write_layer"""
# What float32 keys are not said to be, so that older releases go on reading them.
ONLY_PACKED = "key_storage"
FLOATS = {"key_storage": "float32"}
CONFIG = "edits encoder model saved settings"
MODEL = "fingerprint revision source"
TENSORS = "key_space.map key_space.mean keys token_weights value_of value_scales values"
LINE = "at edit operation removed sequence undoes"
ONLY_COMPACTED = "dropped"
ONLY_RESTORED = "restored"
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


def read_files(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def number_of(folder: Path) -> int:
    number: int = json.loads((folder / "config.json").read_text())["format"]
    return number


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_the_number_follows_what_is_written(storage: str, tmp_path: Path):
    found: dict[str, set[str]] = {name: set() for name in ("config", "model", "tensors", "line", "edit")}
    for number, settings in enumerate(EVERYTHING):
        busy_editor(**settings, key_storage=storage).save(tmp_path / str(number))
        folder = read_folder(tmp_path / str(number))
        assert sorted(HorenConfig().to_dict()) == SETTINGS.split()
        unsaid = {ONLY_PACKED} if storage == "float32" else set()
        assert set(folder.config["settings"]) == set(SETTINGS.split()) - unsaid
        assert str(folder.tensors["keys"].dtype) == f"torch.{storage}"
        found["config"].update(folder.config)
        found["model"].update(folder.config["model"])
        found["tensors"].update(folder.tensors)
        assert number_of(tmp_path / str(number)) == (NUMBER if storage == "float32" else PACKED)
        for line in folder.records:
            found["line"].update(line)
            found["edit"].update(line.get("edit", {}))
    expected = {"config": CONFIG, "model": MODEL, "tensors": TENSORS, "line": LINE, "edit": EDIT}
    assert {name: sorted(some) for name, some in found.items()} == {k: v.split() for k, v in expected.items()}
    assert content.FORMAT == FOLLOWING


def test_only_a_compacted_folder_has_the_number_of_those(tmp_path: Path):
    editor = busy_editor(**FLOATS)
    editor.compact()
    editor.save(tmp_path / "book")
    assert number_of(tmp_path / "book") == COMPACTED
    folder = read_folder(tmp_path / "book")
    assert sorted({name for line in folder.records for name in line}) == sorted([*LINE.split(), ONLY_COMPACTED])
    assert sorted({name for line in folder.records for name in line.get("edit", {})} | {"left"}) == EDIT.split()


def test_only_a_folder_with_additions_has_the_number_of_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 1.0)
    editor = busy_editor(**FLOATS)
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
    editor = busy_editor(**settings, **FLOATS)
    with monkeypatch.context() as before:
        before.setattr(content, "USUAL", 1)
        editor.save(tmp_path / "book")
    assert number_of(tmp_path / "book") == 1
    again = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer(), encoder=settings.get("encoder"))
    assert same(outputs(again), outputs(editor))
    assert again.history() == editor.history()


def test_packed_keys_keep_the_number_whatever_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(additions, "_SMALL", 0)
    monkeypatch.setattr(additions, "_SHARE", 1.0)
    editor = busy_editor()
    editor.save(tmp_path / "book")
    editor.undo()
    editor.save(tmp_path / "book")
    assert any(name.startswith("edits.added") for name in read_files(tmp_path / "book"))
    assert number_of(tmp_path / "book") == PACKED
    editor.compact()
    editor.save(tmp_path / "book")
    assert number_of(tmp_path / "book") == PACKED


def test_a_folder_of_an_older_release_goes_on_being_one(tmp_path: Path):
    """What it was stored in, and the number with it, stay when it is opened, edited and saved again."""
    busy_editor(key_storage="float32", value_storage="float32").save(tmp_path / "book")
    before = read_folder(tmp_path / "book")
    editor = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer())
    assert (editor.config.key_storage, editor.config.value_storage) == ("float32", "float32")
    editor.edit(Edit("Where is it?", "Oslo"))
    editor.save(tmp_path / "book")
    after = read_folder(tmp_path / "book")
    assert number_of(tmp_path / "book") == NUMBER
    assert after.config["settings"] == before.config["settings"]
    assert [after.tensors[name].dtype for name in ("keys", "values")] == [torch.float32] * 2
    assert torch.equal(after.tensors["keys"][:-1], before.tensors["keys"])


def test_only_a_history_in_which_edits_were_restored_has_the_number_of_those(tmp_path: Path):
    editor = busy_editor()
    history = editor._session.history
    gone = editor.remove(history.active()[0].id)[0]
    history.append(Operation(history.count + 1, "rollback", "2026-01-01T00:00:00+00:00", restored=(gone.id,)))
    editor.save(tmp_path / "book")
    assert number_of(tmp_path / "book") == FOLLOWING
    folder = read_folder(tmp_path / "book")
    assert sorted({name for line in folder.records for name in line}) == sorted([*LINE.split(), ONLY_RESTORED])
    assert History.from_lines(folder.records).is_active(gone.id)
