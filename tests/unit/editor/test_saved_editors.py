from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from horen import (
    Edit,
    EditError,
    EditNotFoundError,
    Editor,
    HorenConfig,
    MismatchError,
    ModelError,
    StoreError,
)
from horen.saving import remove_from_folder, undo_in_folder
from horen.store import read_folder, write_folder
from support.editors import (
    EDITED,
    OTHER,
    QUICK,
    REPHRASED,
    chat_ids,
    checksums,
    hooks_on,
    ids_of,
    logits,
    quick_editor,
    same_weights,
)
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

PROMPTS = (EDITED, OTHER, REPHRASED, "Who wrote Hamlet?", "Hello")
EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris"), Edit("Hello", "Oslo")]


def busy_editor(**settings: Any) -> Editor:
    """An editor with a history: edits, one superseded, one removed, one undone."""
    editor = quick_editor(edits=EDITS, **settings)
    editor.supersede(1, "Mira Sand")
    editor.remove(2)
    editor.edit(Edit("It is blue", "Rome"))
    editor.undo()
    return editor


def outputs(editor: Editor) -> list[Tensor]:
    rows = [ids_of(text) for text in PROMPTS] + [chat_ids(text) for text in PROMPTS]
    return [logits(editor.model, row) for row in rows]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def loaded(path: Path, **more: Any) -> Editor:
    return Editor.load(path, tiny_model(**more), tiny_tokenizer())


# --- there and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"key_space": "whitened", "threshold": 0.8}, {"value": "lora", "lora_rank": 2}, {"start": "uniform"}],
    ids=["raw", "whitened", "lora", "uniform"],
)
def test_a_loaded_editor_is_the_saved_one(settings: dict[str, Any], tmp_path: Path):
    editor = busy_editor(**settings)
    editor.save(tmp_path / "book")
    expected, explained = outputs(editor), editor.explain(list(PROMPTS))
    again = loaded(tmp_path / "book")
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


# --- folders that cannot be used -------------------------------------------------------------------------------


def refused(path: Path, error: type[Exception], match: str, **more: Any) -> None:
    """Loading fails, and the model is left as it was."""
    model = tiny_model(**more)
    before, weights = logits(model, ids_of(EDITED)), checksums(model)
    with pytest.raises(error, match=match):
        Editor.load(path, model, tiny_tokenizer())
    assert hooks_on(model) == 0
    assert "_horen_adapter" not in model.__dict__
    assert torch.equal(logits(model, ids_of(EDITED)), before)
    assert same_weights(model, weights)
    Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))


@pytest.mark.parametrize("more", [{"seed": 1}, {"family": "qwen3"}, {"family": "gpt2"}, {"num_hidden_layers": 5}])
def test_a_codebook_of_another_model(more: dict[str, Any], tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    refused(tmp_path / "book", MismatchError, r"made for another model.*load it with that model", **more)


def test_a_codebook_of_a_newer_version(tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    path = tmp_path / "book" / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": document["format"] + 1}))
    refused(tmp_path / "book", MismatchError, "newer version.*Upgrade")


FILES = ("config.json", "edits.jsonl", "codebook.safetensors")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file(name: str, keep: float, tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    path = tmp_path / "book" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refused(tmp_path / "book", StoreError, "book")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.01, 0.3, 0.5, 0.7, 0.95])
def test_a_flipped_bit(name: str, place: float, tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    path = tmp_path / "book" / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    refused(tmp_path / "book", StoreError, "book")


@pytest.mark.parametrize("name", FILES)
def test_a_lost_file(name: str, tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    (tmp_path / "book" / name).unlink()
    refused(tmp_path / "book", StoreError, "book")


def test_a_folder_that_is_not_there(tmp_path: Path):
    refused(tmp_path / "nothing", StoreError, "nothing")


@dataclass
class Parts:
    """What a folder holds, to be changed."""

    config: dict[str, Any]
    records: list[Any]
    tensors: dict[str, Tensor]


def fewer_keys(parts: Parts) -> None:
    parts.tensors["keys"], parts.tensors["value_of"] = parts.tensors["keys"][:2], parts.tensors["value_of"][:2]


def no_values(parts: Parts) -> None:
    del parts.tensors["values"]


def wrong_numbers(parts: Parts) -> None:
    parts.tensors["value_of"] = parts.tensors["value_of"] + 50


def wide_values(parts: Parts) -> None:
    parts.tensors["values"] = torch.cat([parts.tensors["values"], parts.tensors["values"]], dim=1)


def wide_keys(parts: Parts) -> None:
    parts.tensors["keys"] = torch.cat([parts.tensors["keys"], parts.tensors["keys"]], dim=1)


def other_features(parts: Parts) -> None:
    wide_keys(parts)
    parts.tensors["key_space.mean"] = parts.tensors["key_space.mean"].repeat(2)


def keys_of_three_dimensions(parts: Parts) -> None:
    parts.tensors["keys"] = parts.tensors["keys"][None]


def no_space(parts: Parts) -> None:
    del parts.tensors["key_space.mean"]


def no_settings(parts: Parts) -> None:
    del parts.config["settings"]


def no_model(parts: Parts) -> None:
    del parts.config["model"]


def no_fingerprint(parts: Parts) -> None:
    del parts.config["model"]["fingerprint"]


def empty_fingerprint(parts: Parts) -> None:
    parts.config["model"]["fingerprint"] = {}


def lost_operation(parts: Parts) -> None:
    del parts.records[0]


UNFIT: list[Callable[[Parts], None]] = [
    fewer_keys,
    no_values,
    wrong_numbers,
    wide_values,
    wide_keys,
    other_features,
    keys_of_three_dimensions,
    no_space,
    no_settings,
    no_model,
    no_fingerprint,
    empty_fingerprint,
    lost_operation,
]


@pytest.mark.parametrize("change", UNFIT, ids=[change.__name__ for change in UNFIT])
def test_parts_that_do_not_fit_each_other(change: Callable[[Parts], None], tmp_path: Path):
    """Intact files of a folder that another program wrote."""
    busy_editor().save(tmp_path / "book")
    folder = read_folder(tmp_path / "book")
    parts = Parts(json.loads(json.dumps(folder.config)), list(folder.records), dict(folder.tensors))
    change(parts)
    write_folder(tmp_path / "changed", config=parts.config, records=parts.records, tensors=parts.tensors)
    refused(tmp_path / "changed", StoreError, "changed|edits.jsonl")


def test_a_model_without_its_tokenizer(tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    with pytest.raises(ModelError, match="pass tokenizer="):
        Editor.load(tmp_path / "book", tiny_model())


def test_a_codebook_that_does_not_say_where_its_model_is(tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    with pytest.raises(ModelError, match=r"book.*pass model= and tokenizer="):
        Editor.load(tmp_path / "book")


def test_a_model_that_is_gone(tmp_path: Path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    editor = Editor.from_pretrained(str(tmp_path / "model"), HorenConfig(**QUICK))
    editor.save(tmp_path / "book")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="model"):
        Editor.load(tmp_path / "book")


def test_a_wrapped_model_is_not_loaded_into(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    expected = outputs(editor)
    with pytest.raises(ModelError, match="wrapped by an editor already"):
        Editor.load(tmp_path / "book", editor.model, tiny_tokenizer())
    assert same(outputs(editor), expected)


# --- changes without the model ---------------------------------------------------------------------------------


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
