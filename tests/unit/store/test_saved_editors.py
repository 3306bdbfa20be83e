"""Saving an editor and loading it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from horen import Edit, EditError, EditNotFoundError, Editor, HorenConfig, MismatchError
from horen.store import read_folder
from horen.store.state import remove_from_folder, undo_in_folder
from support.editor_support import EDITS, busy_editor
from support.editors import (
    EDITED,
    OTHER,
    PROMPTS,
    QUICK,
    REPHRASED,
    chat_ids,
    checksums,
    hooks_on,
    ids_of,
    outputs,
    quick_editor,
    same,
    same_weights,
)
from support.encoders import save_encoder, text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def loaded(path: Path, encoder: str | None = None, **more: Any) -> Editor:
    return Editor.load(path, tiny_model(**more), tiny_tokenizer(), encoder=encoder)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"key_space": "whitened", "threshold": 0.8},
        {
            "key_space": "whitened",
            "threshold": 0.6,
            "read_weight": "rare",
            "feature_power": 0.5,
            "contrast": 0.4,
            "read_sites": "layer_output@0+auto@0",
        },
        {"value": "lora", "lora_rank": 2},
        {"start": "uniform"},
        text_settings(),
        text_settings(key_space="whitened", threshold=0.6, contrast=0.4),
    ],
    ids=["raw", "whitened", "contrasted", "lora", "uniform", "text", "whitened text"],
)
def test_a_loaded_editor_is_the_saved_one(settings: dict[str, Any], tmp_path: Path):
    editor = busy_editor(**settings)
    editor.save(tmp_path / "book")
    expected, explained = outputs(editor), editor.explain(list(PROMPTS))
    again = loaded(tmp_path / "book", settings.get("encoder"))
    assert same(outputs(again), expected)
    assert again.explain(list(PROMPTS)) == explained
    assert again.edits() == editor.edits()
    assert again.history() == editor.history()
    assert again.config == editor.config
    assert again.generate(list(PROMPTS), 4) == editor.generate(list(PROMPTS), 4)


def test_a_loaded_editor_goes_on_as_the_saved_one(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    again = loaded(tmp_path / "book")
    for each in (editor, again):
        assert each.edit(Edit("It is blue", "Paris"))[0].id == 6
        assert each.remove(4)[0].id == 4
    assert same(outputs(again), outputs(editor))
    for _ in range(5):
        assert editor.undo() == again.undo()
        assert same(outputs(again), outputs(editor))
    assert editor.edits() == again.edits()


def test_saving_again_gives_the_same_folder(tmp_path: Path):
    editor = busy_editor(key_space="whitened")
    editor.save(tmp_path / "one")
    loaded(tmp_path / "one").save(tmp_path / "two")
    one, two = read_folder(tmp_path / "one"), read_folder(tmp_path / "two")
    assert one.records == two.records
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert one.config["settings"] == two.config["settings"] == editor.config.to_dict()


def test_keys_of_another_encoder_are_refused(tmp_path: Path):
    encoder = save_encoder(tmp_path / "encoder")
    editor = busy_editor(read_sites="text", encoder=str(encoder))
    editor.save(tmp_path / "book")
    model = editor.unwrap()
    save_encoder(encoder, seed=1)
    with pytest.raises(MismatchError, match=r"made by another text encoder .*weights differ.*horen rekey"):
        Editor.load(tmp_path / "book", model, tiny_tokenizer(), encoder=encoder)
    assert hooks_on(model) == 0
    save_encoder(encoder, more_words=("who",))
    with pytest.raises(MismatchError, match=r"another text encoder .*architecture differs"):
        Editor.load(tmp_path / "book", model, tiny_tokenizer(), encoder=encoder)
    save_encoder(encoder)
    assert same(outputs(Editor.load(tmp_path / "book", model, tiny_tokenizer(), encoder=encoder)), outputs(editor))


def test_what_is_saved_of_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_encoder(tmp_path / "encoder")
    monkeypatch.chdir(tmp_path)
    editor = busy_editor(read_sites="text", encoder="encoder")
    editor.save("book")
    config = read_folder(tmp_path / "book").config
    assert config["settings"]["encoder"] == config["encoder"]["name"] == str(tmp_path / "encoder")
    assert config["encoder"]["fingerprint"].keys() == config["model"]["fingerprint"].keys()
    quick_editor().save("other")
    assert "encoder" not in read_folder(tmp_path / "other").config


def test_a_codebook_without_edits(tmp_path: Path):
    editor = quick_editor(edits=[])
    editor.save(tmp_path / "book")
    again = loaded(tmp_path / "book")
    assert again.edits() == []
    assert same(outputs(again), outputs(editor))
    again.edit(Edit(EDITED, "Rome"))
    editor.edit(Edit(EDITED, "Rome"))
    assert same(outputs(again), outputs(editor))


def test_the_key_space_is_not_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    editor = quick_editor(key_space="whitened", threshold=0.8)
    editor.save(tmp_path / "book")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("horen.session.fit_key_space", refuse)
    again = loaded(tmp_path / "book")
    again.edit(Edit("Hello", "Oslo"))
    assert again.explain("Hello").fired


def test_saving_changes_nothing(tmp_path: Path):
    editor = busy_editor()
    before, weights = outputs(editor), checksums(editor.model)
    editor.save(tmp_path / "book")
    editor.save(tmp_path / "book")
    assert same(outputs(editor), before)
    assert same_weights(editor.model, weights)


def test_an_unwrapped_editor_can_be_saved(tmp_path: Path):
    editor = busy_editor()
    expected = outputs(editor)
    editor.unwrap()
    editor.save(tmp_path / "book")
    assert same(outputs(loaded(tmp_path / "book")), expected)


def test_in_another_process(tmp_path: Path):
    editor = busy_editor(key_space="whitened", threshold=0.8)
    editor.save(tmp_path / "book")
    with editor.disabled():
        editor.model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows = [ids_of(text) for text in PROMPTS] + [chat_ids(text) for text in PROMPTS]
    script = f"""
import json, sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from horen import Editor
torch.set_num_threads(1)
place = {str(tmp_path)!r}
model = AutoModelForCausalLM.from_pretrained(place + "/model").eval()
editor = Editor.load(place + "/book", model, AutoTokenizer.from_pretrained(place + "/model"))
with torch.no_grad():
    found = {{str(i): model(input_ids=torch.tensor([row])).logits[0] for i, row in enumerate({rows!r})}}
save_file(found, place + "/found.safetensors")
print(json.dumps(editor.generate({list(PROMPTS)!r}, 5)))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "found.safetensors")
    assert same([found[str(i)] for i in range(len(rows))], outputs(editor))
    assert json.loads(done.stdout.splitlines()[-1]) == editor.generate(list(PROMPTS), 5)


def test_a_model_that_is_found_again_by_its_folder(tmp_path: Path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    editor = Editor.from_pretrained(str(tmp_path / "model"), HorenConfig(**QUICK))
    editor.edit(EDITS)
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book")
    assert same(outputs(again), outputs(editor))
    again.save(tmp_path / "copy")
    assert same(outputs(Editor.load(tmp_path / "copy")), outputs(editor))


def test_a_model_in_another_dtype_takes_the_codebook(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model().to(torch.bfloat16), tiny_tokenizer())
    assert again.edits() == editor.edits()
    assert again.explain(EDITED).fired
    for one, two in zip(outputs(again), outputs(editor), strict=True):
        torch.testing.assert_close(one.float(), two, atol=1.0, rtol=0.2)
    again.save(tmp_path / "half")
    assert same(outputs(loaded(tmp_path / "half")), outputs(editor))


def test_removing_and_undoing_in_the_folder(tmp_path: Path):
    editor = quick_editor(edits=EDITS)
    editor.save(tmp_path / "book")
    assert [record.id for record in remove_from_folder(tmp_path / "book", [3, 1, 3])] == [3, 1]
    editor.remove([3, 1])
    assert same(outputs(loaded(tmp_path / "book")), outputs(editor))
    assert undo_in_folder(tmp_path / "book") == editor.undo()
    again = loaded(tmp_path / "book")
    assert same(outputs(again), outputs(editor))
    assert again.edits() == editor.edits()
    assert undo_in_folder(tmp_path / "book") == editor.undo()
    assert same(outputs(loaded(tmp_path / "book")), outputs(editor))
    with pytest.raises(EditError, match="nothing to undo"):
        undo_in_folder(tmp_path / "book")


def test_removing_what_is_not_there(tmp_path: Path):
    quick_editor(edits=EDITS).save(tmp_path / "book")
    before = {path.name: path.read_bytes() for path in (tmp_path / "book").iterdir()}
    with pytest.raises(EditNotFoundError, match="9"):
        remove_from_folder(tmp_path / "book", [1, 9])
    assert {path.name: path.read_bytes() for path in (tmp_path / "book").iterdir()} == before


def test_a_model_loaded_from_a_relative_folder_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    editor = Editor.from_pretrained("model", HorenConfig(**QUICK))
    editor.edit(Edit(OTHER, "Rome"))
    editor.save("facts")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert [record.target for record in Editor.load("../facts").edits()] == ["Rome"]


def test_restoring_puts_a_saved_codebook_in_the_place_of_its_own(tmp_path: Path) -> None:
    editor = busy_editor()
    editor.save(tmp_path)
    before, history = outputs(editor), editor.history()
    editor.edit(Edit("Seven more boats", "Oslo"))
    editor.remove(editor.edits()[0].id)
    assert not same(outputs(editor), before)
    editor.restore(tmp_path)
    assert same(outputs(editor), before)
    assert editor.history() == history


def test_restoring_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    busy_editor(threshold=0.98).save(tmp_path)
    editor = busy_editor()
    before = outputs(editor)
    with pytest.raises(MismatchError, match=r"made with threshold=0.98, not 0.97: open it with the settings"):
        editor.restore(tmp_path)
    assert same(outputs(editor), before)


def test_bytes_that_are_stored() -> None:
    editor = quick_editor(edits=[])
    assert editor.stored_bytes == 0
    editor.edit([Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])
    codebook = editor._session.codebook()
    width, size = codebook.keys.shape[1], codebook.values.shape[1]
    assert editor.stored_bytes == 3 * (width + 8) + 2 * 2 * size


def test_values_of_another_codebook_are_taken_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = quick_editor(edits=EDITS)
    first.save(tmp_path / "facts")
    values = first._session.codebook().values.clone()
    losses = [record.loss for record in first.edits()]
    first.unwrap()
    second = quick_editor(edits=[], steps=0)
    second.take_values(tmp_path / "facts")
    monkeypatch.setattr("horen.editing.write.train_values", None)  # calling it would fail
    second.edit(EDITS)
    assert torch.equal(second._session.codebook().values, values)
    assert [record.loss for record in second.edits()] == losses
    monkeypatch.undo()
    second.edit(Edit("Another fact", "Oslo"))  # not stored there: trained
    assert second.edits()[-1].steps > 0


def test_values_of_other_settings_are_refused(tmp_path: Path):
    busy_editor().save(tmp_path / "facts")
    with pytest.raises(MismatchError, match="learning_rate"):
        quick_editor(learning_rate=0.123).take_values(tmp_path / "facts")
    other = Editor(tiny_model("gpt2"), tiny_tokenizer(), HorenConfig.from_dict(QUICK))
    with pytest.raises(MismatchError, match="another model"):
        other.take_values(tmp_path / "facts")
