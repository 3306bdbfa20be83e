"""New keys for stored edits: what stays, what goes on working, what is refused, and what an interruption leaves."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from horen import ConfigError, Edit, Editor, MismatchError, MissingExtraError, ModelError, StoreError
from horen.editing import rekey as rekeying
from horen.editing.rekey import rekey_folder, rekeyed
from horen.memory import KeySpace, Packed
from horen.store import folder as folder_module
from horen.store import read_folder, write_folder
from horen.store.state import Saved
from support.editor_support import busy_editor
from support.editors import EDITED, OTHER, PROMPTS, checksums, hooks_on, outputs, quick_editor, same, same_weights
from support.encoders import ENCODED, save_encoder, text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

WAYS: dict[str, Any] = {
    "another layer": lambda: {"read_sites": "layer_output@0"},
    "two layers": lambda: {"read_sites": "layer_output@0+auto@0"},
    "whitened": lambda: {"key_space": "whitened", "threshold": 0.8, "key_dimension": 8},
    "rare words": lambda: {"read_weight": "rare"},
    "all tokens": lambda: {"scope": "all"},
    "text": text_settings,
    "whitened text": lambda: text_settings(key_space="whitened", feature_power=1.0, threshold=0.8),
}
each_way = pytest.mark.parametrize("way", list(WAYS))


def tables(editor: Editor) -> tuple[torch.Tensor, torch.Tensor]:
    codebook = editor._session.codebook()
    return codebook.values.clone(), codebook.value_of.clone()


def test_the_same_settings_give_the_same_keys():
    editor = busy_editor(key_space="whitened", threshold=0.8, read_weight="rare")
    keys, before, history = editor._session.codebook().keys.clone(), outputs(editor), editor.history()
    values = tables(editor)
    editor.rekey(editor.config)
    torch.testing.assert_close(editor._session.codebook().keys, keys)
    assert same(tables(editor), values)
    assert editor.history() == history
    for one, two in zip(outputs(editor), before, strict=True):
        torch.testing.assert_close(one, two)


@each_way
def test_rekeyed_edits_are_those_of_an_editor_that_read_so_from_the_start(way: str):
    editor, settings = busy_editor(), WAYS[way]()
    values, history, weights = tables(editor), editor.history(), checksums(editor.model)
    editor.rekey(editor.config.replace(**settings))
    assert same(tables(editor), values)
    assert editor.history() == history
    assert same_weights(editor.model, weights)
    other = busy_editor(**settings)
    assert hooks_on(editor.model) == hooks_on(other.model)
    torch.testing.assert_close(editor._session.codebook().keys, other._session.codebook().keys)
    assert [found.fired for found in editor.explain(list(PROMPTS))] == [
        found.fired for found in other.explain(list(PROMPTS))
    ]


@each_way
def test_undo_after_rekeying(way: str):
    editor = quick_editor()
    first = outputs(editor)
    editor.supersede(1, "Mira Sand")
    second = outputs(editor)
    editor.remove(2)
    editor.rekey(editor.config.replace(**WAYS[way]()))
    assert not editor.explain(EDITED).fired
    editor.undo()
    assert editor.get(2).target == "Mira Sand"
    assert editor.explain(EDITED).edit_id == 2
    assert same(outputs(editor)[:1], second[:1])
    editor.undo()
    assert same(outputs(editor)[:1], first[:1])


def test_there_and_back():
    editor = busy_editor()
    before, explained = outputs(editor), editor.explain(list(PROMPTS))
    config = editor.config
    editor.rekey(config.replace(**text_settings()))
    editor.rekey(config)
    assert [found.edit_id for found in editor.explain(list(PROMPTS))] == [found.edit_id for found in explained]
    for one, two in zip(outputs(editor), before, strict=True):
        torch.testing.assert_close(one, two)


def test_a_rekeyed_editor_goes_on_and_is_saved(tmp_path: Path):
    editor = busy_editor()
    editor.rekey(editor.config.replace(**text_settings()))
    editor.edit(Edit("It is blue", "Paris"))
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer(), encoder=editor.config.encoder)
    assert again.config == editor.config
    assert again.history() == editor.history()
    assert same(outputs(again), outputs(editor))


def test_without_edits():
    editor = quick_editor(edits=[])
    editor.rekey(editor.config.replace(**text_settings()))
    editor.edit(Edit(EDITED, "Rome"))
    assert editor.explain(EDITED).fired


def test_a_ready_key_space_is_taken():
    editor = busy_editor(key_space="whitened", threshold=0.8)
    kept, model = editor._session.state(), editor.unwrap()
    ready = KeySpace(torch.ones(32), torch.eye(32)[:, :5])
    config = editor.config.replace(read_sites="layer_output@0", read_weight="rare")
    weights = torch.rand(512)
    session = rekeyed(kept, model, editor.tokenizer, config, key_space=ready, token_weights=weights)
    assert torch.equal(session.key_space.map, ready.map)
    assert torch.equal(session.token_weights, weights)
    assert session.codebook().keys.shape[1] == 5
    with pytest.raises(ConfigError, match=r"key space is one of features of 32 numbers.*auto@0 gives 48"):
        rekeyed(kept, model, editor.tokenizer, editor.config, key_space=ready)


@pytest.mark.parametrize("way", ["activations", "text"])
def test_a_gate_alone_changes_in_the_key_space_that_is_there(way: str):
    settings, size = ({"read_weight": "rare"}, 48) if way == "activations" else (text_settings(), ENCODED)
    first = busy_editor(key_space="whitened", feature_power=1.0, **settings)
    kept, model = first._session.state(), first.unwrap()
    ready = KeySpace(torch.ones(size), torch.randn(size, 5))
    weights = torch.rand(512) if way == "activations" else None
    one = rekeyed(kept, model, first.tokenizer, first.config, key_space=ready, token_weights=weights)
    gate = {"threshold": 0.3, "contrast": 0.1, "similar_threshold": 0.4}
    two = rekeyed(one.state(), model, first.tokenizer, one.config.replace(**gate))
    assert torch.equal(two.key_space.map, ready.map)
    assert two.token_weights is weights
    torch.testing.assert_close(two.codebook().keys, one.codebook().keys)
    anew = rekeyed(two.state(), model, first.tokenizer, two.config.replace(key_dimension=6))
    assert anew.key_space.dimension == 6


def test_an_encoder_that_was_replaced_is_measured_anew(tmp_path: Path):
    encoder = save_encoder(tmp_path / "encoder")
    editor = busy_editor(read_sites="text", encoder=str(encoder), key_space="whitened", threshold=0.8)
    editor.save(tmp_path / "book")
    model, before = editor.unwrap(), read_folder(tmp_path / "book").tensors
    save_encoder(encoder, seed=1)
    rekey_folder(tmp_path / "book", model, editor.tokenizer, editor.config)
    assert not torch.equal(read_folder(tmp_path / "book").tensors["key_space.map"], before["key_space.map"])
    assert Editor.load(tmp_path / "book", model, editor.tokenizer, encoder=encoder).explain(EDITED).fired


def test_progress_counts_the_edits_of_the_history(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rekeying, "_EDITS_TOGETHER", 2)
    editor, calls = busy_editor(), []
    editor.rekey(editor.config, progress=lambda *counts: calls.append(counts))
    assert calls == [(2, 5), (4, 5), (5, 5)]


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"max_steps": 7}, ConfigError, r"max_steps=7 cannot be: rekeying keeps the values.*max_steps=1"),
        ({"write_layer": 2}, ConfigError, r"write_layer=2\.0 cannot be"),
        ({"value": "lora"}, ConfigError, "value='lora' cannot be"),
        ({"contexts": "several"}, ConfigError, "contexts='several' cannot be"),
        ({"read_sites": "auto@9"}, ConfigError, "read_sites=9 names no layer"),
        ({"read_sites": "auto@3"}, ConfigError, "comes after write_layer"),
        (
            {"read_sites": "text", "encoder": "no such folder"},
            (MissingExtraError, ModelError),
            "encoder='no such folder'",
        ),
    ],
)
def test_what_is_refused_changes_nothing(changes: dict[str, Any], error: type[Exception], match: str):
    editor = busy_editor()
    before, hooks, config = outputs(editor), hooks_on(editor.model), editor.config
    with pytest.raises(error, match=match):
        editor.rekey(config.replace(**changes))
    assert editor.config == config
    assert hooks_on(editor.model) == hooks
    assert same(outputs(editor), before)
    editor.rekey(config)


def test_an_unwrapped_editor_is_not_rekeyed():
    editor = busy_editor()
    editor.unwrap()
    with pytest.raises(ModelError, match="unwrapped"):
        editor.rekey(editor.config)


# --- interruptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["Session.prepare", "Session.keys", "Session.wrap", "Session.unwrap", "Session.take"])
def test_an_interruption_leaves_the_editor_as_it_was(step: str, monkeypatch: pytest.MonkeyPatch):
    editor = busy_editor()
    before, hooks, history = outputs(editor), hooks_on(editor.model), editor.history()
    owner: Any = rekeying
    *path, name = step.split(".")
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            return original(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            editor.rekey(editor.config.replace(read_sites="layer_output@0+auto@0"))
    assert editor.config.read_sites == "auto@0"
    assert hooks_on(editor.model) == hooks
    assert editor.history() == history
    assert same(outputs(editor), before)


@pytest.mark.parametrize("step", ["reading", "writing", "committing"])
def test_an_interruption_leaves_the_folder_as_it_was(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    files = {path.name: path.read_bytes() for path in (tmp_path / "book").iterdir()}
    model, progress = editor.unwrap(), None

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if step == "reading":
        progress = fail
    elif step == "writing":
        monkeypatch.setattr(folder_module, "write_file", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        rekey_folder(tmp_path / "book", model, editor.tokenizer, editor.config.replace(scope="all"), progress=progress)
    assert {path.name: path.read_bytes() for path in (tmp_path / "book").iterdir()} == files
    assert hooks_on(model) == 0


# --- folders -------------------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_folder(way: str, elsewhere: bool, tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    before, model = read_folder(tmp_path / "book"), editor.unwrap()
    out = tmp_path / "new" if elsewhere else None
    config = editor.config.replace(**WAYS[way]())
    rekey_folder(tmp_path / "book", model, editor.tokenizer, config, out=out)
    after = read_folder(out or tmp_path / "book")
    assert after.records == before.records
    assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in ("values", "value_of"))
    assert after.config["model"] == before.config["model"]
    if elsewhere:
        assert read_folder(tmp_path / "book").config == before.config
    encoder = config.encoder if config.reads_text else None
    again = Editor.load(out or tmp_path / "book", model, editor.tokenizer, encoder=encoder)
    assert again.config == config
    assert again.history() == editor.history()
    again.undo()


def test_a_codebook_whose_encoder_is_lost_can_be_rekeyed(tmp_path: Path):
    encoder = Path(shutil.copytree(text_settings()["encoder"], tmp_path / "encoder"))
    editor = busy_editor(**text_settings(encoder=str(encoder)))
    editor.save(tmp_path / "book")
    model = editor.unwrap()
    shutil.rmtree(encoder)
    with pytest.raises(ModelError, match="encoder="):
        Editor.load(tmp_path / "book", model, editor.tokenizer)
    config = Saved.read(tmp_path / "book").config.replace(read_sites="auto@0")
    rekey_folder(tmp_path / "book", model, editor.tokenizer, config)
    assert Editor.load(tmp_path / "book", model, editor.tokenizer).explain(EDITED).fired


@pytest.mark.parametrize("way", ["as it is", "gate", "another layer"])
def test_a_codebook_whose_keys_are_lost_can_be_rekeyed(way: str, tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    folder, model = read_folder(tmp_path / "book"), editor.unwrap()
    keys = folder.tensors.pop("keys").clone()
    write_folder(tmp_path / "book", config=folder.config, records=folder.records, tensors=folder.tensors)
    with pytest.raises(StoreError, match="does not fit edits"):
        Editor.load(tmp_path / "book", model, editor.tokenizer)
    changes = {"as it is": {}, "gate": {"threshold": 0.3}, "another layer": {"read_sites": "layer_output@0"}}[way]
    rekey_folder(tmp_path / "book", model, editor.tokenizer, editor.config.replace(**changes))
    found = read_folder(tmp_path / "book").tensors["keys"]
    if way != "another layer":
        torch.testing.assert_close(found, keys)
    assert Editor.load(tmp_path / "book", model, editor.tokenizer).explain(EDITED).fired


def test_the_weights_are_those_that_the_codebook_began_with(tmp_path: Path):
    editor = busy_editor()
    began = editor._session.weights
    weight = next(editor.model.parameters())
    with torch.no_grad():
        weight += 1
    editor.rekey(editor.config.replace(threshold=0.3))
    assert editor._session.weights is began
    with pytest.raises(MismatchError, match="since this codebook began"):
        editor.save(tmp_path / "book")
    with torch.no_grad():
        weight -= 1


def test_a_session_a_folder_and_a_session_again(tmp_path: Path):
    editor = busy_editor(key_space="whitened", threshold=0.8, read_weight="rare")
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer())
    states = [editor._session.state(), Saved.read(tmp_path / "book").state(), again._session.state()]
    told = [
        (s.config, s.source, s.revision, s.made_for, s.encoder, list(s.history.lines()), s.space.power) for s in states
    ]
    assert told[0] == told[1] == told[2]
    held = [(s.keys, s.values.numbers, s.value_of, s.space.mean, s.space.map, s.token_weights) for s in states]
    assert same(held[0], held[1])
    assert same(held[0], held[2])


def test_a_folder_of_another_model(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    with pytest.raises(MismatchError, match="made for another model"):
        rekey_folder(tmp_path / "book", tiny_model(seed=1), editor.tokenizer, editor.config)


def test_a_place_that_is_taken(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    with pytest.raises(StoreError, match="is there already"):
        rekey_folder(tmp_path / "book", editor.unwrap(), editor.tokenizer, editor.config, out=tmp_path / "book")


def test_tables_that_do_not_fit_the_history():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])
    kept, model = editor._session.state(), editor.unwrap()
    shorter = dataclasses.replace(kept, value_of=kept.value_of[:1])
    with pytest.raises(StoreError, match="does not name every entry"):
        rekeyed(shorter, model, editor.tokenizer, editor.config)
    wider = dataclasses.replace(kept, values=Packed.of(kept.values.numbers.repeat(1, 2)))
    with pytest.raises(StoreError, match="values have 64 numbers and the model's 32"):
        rekeyed(wider, model, editor.tokenizer, editor.config)
