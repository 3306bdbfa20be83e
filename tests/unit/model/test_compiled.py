"""Models and parts of models that torch.compile has had in hand, before or after they were wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import Edit, Editor, HorenConfig
from support.editors import EDITED, OTHER, QUICK, REPHRASED, ids_of, logits, quick_editor
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing compiled by one test is met by another."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def wrapped(model: Any, **settings: Any) -> Editor:
    editor = Editor(model, tiny_tokenizer(), HorenConfig(**(dict(QUICK) | settings)))
    editor.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    return editor


def expected(**settings: Any) -> tuple[Tensor, Tensor]:
    editor = quick_editor(**settings)
    edited = logits(editor.model, ids_of(EDITED))
    with editor.disabled():
        return edited, logits(editor.model, ids_of(EDITED))


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", ["vector", "state"])
@pytest.mark.parametrize("part", ["the model", "the inner model", "a layer", "an MLP", "a projection", "an object"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_compiled_parts(part: str, when: str, value: str):
    """Compiled before the wrapping and called once, or after it."""
    edited, base = expected(value=value)
    model = tiny_model()

    def compiled() -> Any:
        if part == "an object":
            return torch.compile(model, backend="eager")
        at: Any = model.model.layers[1]
        modules = {"the model": model, "the inner model": model.model, "a layer": at, "an MLP": at.mlp}
        modules["a projection"] = model.model.layers[0].mlp.down_proj  # where prompts are read
        modules[part].compile(backend="eager")
        return model

    if when == "before":
        run = compiled()
        logits(run, ids_of(EDITED))
        editor = wrapped(model, value=value)
    else:
        editor = wrapped(model, value=value)
        run = compiled()
    close(logits(run, ids_of(EDITED)), edited)
    with editor.disabled():
        close(logits(run, ids_of(EDITED)), base)
    editor.edit(Edit(OTHER, "Paris"))  # whatever was traced meanwhile, prompts are read and values are trained
    with editor.disabled():
        untouched = logits(run, ids_of(OTHER))
    assert not torch.allclose(logits(run, ids_of(OTHER)), untouched)
    close(logits(run, ids_of(EDITED)), edited)
    editor.unwrap()
    close(logits(run, ids_of(EDITED)), base)
    assert (model.model.layers[1].mlp._compiled_call_impl is not None) == (part == "an MLP")
    second = wrapped(model, value=value)
    close(logits(run, ids_of(EDITED)), edited)
    assert second.edits()


@pytest.mark.parametrize("value", ["vector", "state"])
def test_a_compiled_forward(value: str):
    edited, base = expected(value=value)
    editor = quick_editor(value=value)
    editor.model.forward = torch.compile(editor.model.forward, backend="eager")
    close(logits(editor.model, ids_of(EDITED)), edited)
    editor.edit(Edit(OTHER, "Paris"))
    close(logits(editor.model, ids_of(EDITED)), edited)
    with editor.disabled():
        close(logits(editor.model, ids_of(EDITED)), base)
        untouched = logits(editor.model, ids_of(OTHER))
    assert not torch.allclose(logits(editor.model, ids_of(OTHER)), untouched)


@pytest.mark.parametrize("reads", ["auto@0", "auto@0+layer_output@0"])
def test_the_default_backend(reads: str):
    edited, _ = expected(read_sites=reads)
    editor = quick_editor(read_sites=reads)
    close(logits(torch.compile(editor.model), ids_of(EDITED)), edited)


def test_a_folder_for_a_model_with_compiled_parts(tmp_path: Path):
    editor = quick_editor()
    edited = logits(editor.model, ids_of(EDITED))
    editor.save(tmp_path / "edits")
    model = tiny_model()
    for layer in model.model.layers:
        layer.mlp.compile(backend="eager")
    logits(model, ids_of(OTHER))
    loaded = Editor.load(tmp_path / "edits", model, tiny_tokenizer())
    close(logits(model, ids_of(EDITED)), edited)
    assert loaded.explain(EDITED).fired
    assert loaded.explain(EDITED).score == pytest.approx(editor.explain(EDITED).score, abs=1e-4)
