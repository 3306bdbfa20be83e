"""Folders that cannot be loaded, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import Editor, HorenConfig, MismatchError, ModelError, StoreError
from horen.store import read_folder, write_folder
from horen.store.content import FORMAT
from support.editor_support import busy_editor
from support.editors import EDITED, QUICK, checksums, hooks_on, ids_of, logits, outputs, same, same_weights
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


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
    path.write_text(json.dumps(document | {"format": FORMAT + 1}))
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


def no_token_weights(parts: Parts) -> None:
    parts.config["settings"]["read_weight"] = "rare"


def few_token_weights(parts: Parts) -> None:
    parts.config["settings"]["read_weight"] = "rare"
    parts.tensors["token_weights"] = torch.ones(5)


def needless_token_weights(parts: Parts) -> None:
    parts.tensors["token_weights"] = torch.ones(5)


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
    no_token_weights,
    few_token_weights,
    needless_token_weights,
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
