"""A codebook is good for the weights it began with: those that changed since are told when it is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from horen import Edit, Editor, MismatchError
from horen.store import read_folder
from support.editors import OTHER, checksums, ids_of, outputs, quick_editor, same
from support.encoders import text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def tuned(model: PreTrainedModel) -> None:
    """One step of an optimiser."""
    ids = torch.tensor([ids_of(OTHER)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def added_to_data(model: PreTrainedModel) -> None:
    """What no counter of torch's notices."""
    for parameter in model.parameters():
        parameter.data.add_(0.01)


def one_weight(model: PreTrainedModel) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[3] += 1


def replaced(model: PreTrainedModel) -> None:
    other = tiny_model(model.config.model_type, seed=1)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.data = theirs.data


class Sums(TorchDispatchMode):
    """Counts the sums that are computed within the block, which a fingerprint is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket is torch.ops.aten.sum
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("change", [tuned, added_to_data, one_weight, replaced])
def test_changed_weights_are_refused_at_save(family: str, change: Callable[[Any], None], tmp_path: Path):
    editor = quick_editor(family)
    editor.save(tmp_path / "book")
    before, kept = read_folder(tmp_path / "book"), checksums(editor.model)
    change(editor.model)
    for _ in range(2):
        with pytest.raises(MismatchError, match=r"weights differ.*since.*codebook began.*Put them back.*anew"):
            editor.save(tmp_path / "book")
    assert read_folder(tmp_path / "book").config == before.config
    with pytest.raises(MismatchError, match="made for another model"):
        Editor.load(tmp_path / "book", editor.unwrap(), tiny_tokenizer())
    editor.model.load_state_dict(kept, strict=False)  # buffers are copied too
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model(family), tiny_tokenizer())
    assert again.edits() == editor.edits()


def test_weights_that_changed_before_the_first_edit_are_the_models_own(tmp_path: Path):
    editor = quick_editor(edits=[])
    tuned(editor.model)
    editor.edit(Edit(OTHER, "Oslo"))
    editor.save(tmp_path / "book")
    model = editor.unwrap()
    assert Editor.load(tmp_path / "book", model, tiny_tokenizer()).edits() == editor.edits()


def test_what_is_loaded_anew_goes_by_the_weights_at_that_time(tmp_path: Path):
    editor = quick_editor()
    tuned(editor.model)
    other = quick_editor(edits=[])
    other.model.load_state_dict(editor.model.state_dict())
    other.edit(Edit(OTHER, "Oslo"))
    other.save(tmp_path / "other")
    editor.restore(tmp_path / "other")
    editor.save(tmp_path / "again")
    assert same(outputs(editor), outputs(other))


def test_new_keys_do_not_make_changed_weights_good(tmp_path: Path):
    editor = quick_editor()
    tuned(editor.model)
    editor.rekey(editor.config.replace(threshold=0.9))
    with pytest.raises(MismatchError, match="weights differ"):
        editor.save(tmp_path / "book")
    assert not (tmp_path / "book").exists()


@pytest.mark.parametrize("settings", [{}, text_settings()], ids=["activations", "text"])
def test_weights_are_read_once(settings: dict[str, Any], tmp_path: Path):
    editor = quick_editor(**settings)
    editor.save(tmp_path / "book")
    with Sums() as sums:
        editor.save(tmp_path / "book")
        editor.save(tmp_path / "two")
    assert sums.count == 0
    with Sums() as sums:
        Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer(), encoder=settings.get("encoder"))
    assert sums.count > 0


def test_another_type_or_place_of_the_same_weights_is_saved(tmp_path: Path):
    editor = quick_editor()
    editor.save(tmp_path / "one")
    for parameter in editor.model.parameters():
        parameter.data = parameter.data.clone()
    editor.save(tmp_path / "two")
    editor.model.to(torch.bfloat16)
    editor.save(tmp_path / "three")
    prints = [read_folder(tmp_path / name).config["model"]["fingerprint"] for name in ("one", "two", "three")]
    assert prints[0] == prints[1] == prints[2]
    assert Editor.load(tmp_path / "three", tiny_model(), tiny_tokenizer()).edits() == editor.edits()
