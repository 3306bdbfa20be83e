"""Models and parts of models that torch.compile has had in hand, before or after they were wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import Edit, Editor, HorenConfig
from support.editors import EDITED, OTHER, QUICK, REPHRASED, ids_of, logits
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

AS_LONG = "Who wrote Hamlet?"  # as EDITED, in tokens


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing compiled by one test is met by another."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def small() -> Any:
    """Two layers: tracing takes its time."""
    return tiny_model(num_hidden_layers=2)


def wrapped(model: Any, **settings: Any) -> Editor:
    editor = Editor(model, tiny_tokenizer(), HorenConfig(**(dict(QUICK) | settings)))
    editor.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    return editor


def expected(**settings: Any) -> tuple[Tensor, Tensor]:
    editor = wrapped(small(), **settings)
    edited = logits(editor.model, ids_of(EDITED))
    with editor.disabled():
        return edited, logits(editor.model, ids_of(EDITED))


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("part", "when"),
    [
        ("the model", "before"),
        ("an object", "before"),
        *((part, when) for part in ("a layer", "an MLP", "a projection") for when in ("before", "after")),
    ],
)
def test_compiled_parts(part: str, when: str):
    """Compiled before the wrapping and called once, or after it."""
    edited, base = expected()
    model = small()

    def compiled() -> Any:
        if part == "an object":
            return torch.compile(model, backend="eager")
        at: Any = model.model.layers[1]
        modules = {"the model": model, "a layer": at, "an MLP": at.mlp}
        modules["a projection"] = model.model.layers[0].mlp.down_proj  # where prompts are read
        modules[part].compile(backend="eager")
        return model

    if when == "before":
        run = compiled()
        logits(run, ids_of(EDITED))
        editor = wrapped(model)
    else:
        editor = wrapped(model)
        run = compiled()
    close(logits(run, ids_of(EDITED)), edited)
    with editor.disabled():
        close(logits(run, ids_of(EDITED)), base)
    # Tracing a whole model for any length takes seconds: there the other prompt is as long.
    other = OTHER if part not in {"the model", "an object"} else AS_LONG
    editor.edit(Edit(other, "Paris"))  # whatever was traced meanwhile, prompts are read and values are trained
    with editor.disabled():
        untouched = logits(run, ids_of(other))
    assert not torch.allclose(logits(run, ids_of(other)), untouched)
    close(logits(run, ids_of(EDITED)), edited)
    editor.unwrap()
    assert (model.model.layers[1].mlp._compiled_call_impl is not None) == (part == "an MLP")
    wrapped(model)
    close(logits(run, ids_of(EDITED)), edited)


def test_a_compiled_forward():
    edited, base = expected()
    editor = wrapped(small())
    editor.model.forward = torch.compile(editor.model.forward, backend="eager")
    close(logits(editor.model, ids_of(EDITED)), edited)
    editor.edit(Edit(AS_LONG, "Paris"))
    close(logits(editor.model, ids_of(EDITED)), edited)
    with editor.disabled():
        close(logits(editor.model, ids_of(EDITED)), base)
        untouched = logits(editor.model, ids_of(AS_LONG))
    assert not torch.allclose(logits(editor.model, ids_of(AS_LONG)), untouched)


def test_the_default_backend():
    reads = "auto@0+layer_output@0"
    edited, _ = expected(read_sites=reads)
    editor = wrapped(small(), read_sites=reads)
    close(logits(torch.compile(editor.model), ids_of(EDITED)), edited)


def test_a_folder_for_a_model_with_compiled_parts(tmp_path: Path):
    editor = wrapped(small())
    edited = logits(editor.model, ids_of(EDITED))
    editor.save(tmp_path / "edits")
    model = small()
    for layer in model.model.layers:
        layer.mlp.compile(backend="eager")
    for ids in (ids_of(OTHER), [5]):  # a model's sizes are told by one token
        logits(model, ids)
    loaded = Editor.load(tmp_path / "edits", model, tiny_tokenizer())
    close(logits(model, ids_of(EDITED)), edited)
    assert loaded.explain(EDITED).fired
    assert loaded.explain(EDITED).score == pytest.approx(editor.explain(EDITED).score, abs=1e-4)
