"""Models whose weights do not lie where they compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import accelerate
import pytest
import torch
from transformers import PreTrainedModel

from horen import Editor, HorenConfig
from horen.model.devices import device_of
from support.editors import CAREFUL, facts
from support.tiny_models import taught_model
from support.tiny_tokenizers import tiny_tokenizer

CPU = torch.device("cpu")
ENDS = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")


def whole() -> PreTrainedModel:
    return copy.deepcopy(taught_model())


def offloaded(_: Path) -> PreTrainedModel:
    return accelerate.cpu_offload(whole(), execution_device=CPU)


def upper_layers_on_disk(folder: Path) -> PreTrainedModel:
    model = whole()
    count = model.config.num_hidden_layers
    places = dict.fromkeys(ENDS, "cpu")
    places |= {f"model.layers.{i}": "disk" if 2 * i >= count else "cpu" for i in range(count)}
    return accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=folder)


def ends_on_disk(folder: Path) -> PreTrainedModel:
    model = whole()
    places = dict.fromkeys(ENDS, "cpu") | {"model.embed_tokens": "disk", "lm_head": "disk"}
    places |= {f"model.layers.{i}": "cpu" for i in range(model.config.num_hidden_layers)}
    return accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=folder)


def values_and_answers(model: PreTrainedModel) -> tuple[torch.Tensor, list[str]]:
    editor = Editor(model, tiny_tokenizer("chatml"), HorenConfig(**CAREFUL))
    receipts = editor.edit(facts())
    assert all(receipt.converged for receipt in receipts)
    answers = [editor.generate(edit.prompt) for edit in facts()]
    values = editor._session.codebook().values.clone()
    editor.unwrap()
    return values, answers


@pytest.mark.parametrize("spread", [offloaded, upper_layers_on_disk, ends_on_disk])
def test_an_offloaded_model_is_edited_like_any_other(spread: Callable[[Path], PreTrainedModel], tmp_path: Path):
    values, answers = values_and_answers(whole())
    model = spread(tmp_path)
    assert any(parameter.is_meta for parameter in model.parameters())
    assert device_of(model) == CPU
    found, told = values_and_answers(model)
    torch.testing.assert_close(found.cpu(), values, atol=1e-4, rtol=1e-4)
    assert told == answers


def test_a_model_in_memory_computes_where_it_lies():
    assert device_of(whole()) == CPU


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs are needed")
def test_a_model_over_two_devices_is_edited_like_any_other():
    values, answers = values_and_answers(whole())
    model = whole()
    count = model.config.num_hidden_layers
    places = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 1, "lm_head": 1}
    places |= {f"model.layers.{i}": int(2 * i >= count) for i in range(count)}
    found, told = values_and_answers(accelerate.dispatch_model(model, places))
    torch.testing.assert_close(found.cpu(), values, atol=1e-3, rtol=1e-3)
    assert told == answers
