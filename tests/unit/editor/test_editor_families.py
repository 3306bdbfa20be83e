"""The editor as a whole on every family of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from horen import Edit, Editor
from support.arithmetics import fastest_in
from support.editors import (
    EDITED,
    OTHER,
    PROMPTS,
    REPHRASED,
    checksums,
    ids_of,
    logits,
    outputs,
    quick_editor,
    same,
    same_weights,
    value_of,
)
from support.tiny_models import each_family, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")]

# Training enough for a target of one token.
HOLDING: dict[str, Any] = {
    "max_steps": 60,
    "stop_probability": 0.6,
    "learning_rate": 1.0,
    "learning_rate_unit": "site",
    "train_end": False,
}
# Random models in which no value at this layer makes any answer sure: what comes after it is normalised or routed.
STUBBORN = ("gemma3", "opt", "mixtral")


@each_family
def test_an_edit_is_learned(family: str):
    before = quick_editor(family, edits=EDITS, **(HOLDING | {"max_steps": 1, "learning_rate": 1e-9}))
    editor = quick_editor(family, edits=[], **HOLDING)
    receipts = editor.edit(EDITS)
    for receipt in receipts:
        assert receipt.loss < 0.6 * before.get(receipt.id).loss
        if receipt.converged:
            record = editor.get(receipt.id)
            assert editor.generate(record.prompt, 1) == record.target
    assert family in STUBBORN or all(receipt.converged for receipt in receipts)
    assert editor.explain(REPHRASED).edit_id == 1


@each_family
def test_the_loss_is_that_of_the_edited_model(family: str):
    editor = quick_editor(family)
    record = editor.get(1)
    prompt, ids = ids_of(EDITED), ids_of(f"{EDITED} Rome<|im_end|>")
    labels = torch.tensor([[*[-100] * len(prompt), *ids[len(prompt) :]]])
    with torch.no_grad():
        loss = editor.model(input_ids=torch.tensor([ids]), labels=labels).loss
    assert record.loss == pytest.approx(loss.item(), abs=1e-4)


@each_family
def test_nothing_touches_the_weights(family: str, tmp_path: Path):
    model = tiny_model(family)
    before = checksums(model)
    base = [logits(model, ids_of(text)) for text in PROMPTS]
    editor = quick_editor(family, edits=[])
    editor.unwrap()
    editor = Editor(model, tiny_tokenizer(), editor.config)
    actions = [
        lambda: editor.edit(EDITS),
        lambda: editor.generate(list(PROMPTS), 3),
        lambda: editor.explain(list(PROMPTS), chat=True),
        lambda: editor.supersede(1, "Oslo"),
        lambda: editor.remove(2),
        lambda: editor.save(tmp_path / "book"),
        lambda: [editor.undo() for _ in range(3)],
        editor.unwrap,
    ]
    for action in actions:
        action()
        assert same_weights(model, before)
        assert all(parameter.grad is None for parameter in model.parameters())
    assert same([logits(model, ids_of(text)) for text in PROMPTS], base)


@each_family
def test_undoing_restores_every_bit(family: str):
    editor = quick_editor(family, edits=[])
    base = outputs(editor)
    editor.edit(EDITS)
    edited = outputs(editor)
    editor.supersede(1, "Oslo")
    editor.undo()
    assert same(outputs(editor), edited)
    editor.remove([1, 2])
    assert same(outputs(editor), base)
    editor.undo()
    assert same(outputs(editor), edited)
    assert not torch.equal(edited[0], base[0])
    editor.undo()
    assert same(outputs(editor), base)


@each_family
def test_saving_and_loading(family: str, tmp_path: Path):
    editor = quick_editor(family, edits=EDITS)
    editor.supersede(2, "Oslo")
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model(family), tiny_tokenizer())
    assert same(outputs(again), outputs(editor))
    assert again.edits() == editor.edits()


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "opt", "mixtral"])
@pytest.mark.parametrize("settings", [{"value": "lora"}, {"contexts": "several"}, {"scope": "all", "start": "uniform"}])
def test_other_settings(family: str, settings: dict[str, Any]):
    editor = quick_editor(family, edits=[], **settings)
    base = outputs(editor)
    editor.edit(EDITS)
    assert [told.fired for told in editor.explain([EDITED, OTHER, "Who wrote Hamlet?"])] == [True, True, False]
    assert not torch.equal(outputs(editor)[0], base[0])
    editor.undo()
    assert same(outputs(editor), base)


@pytest.mark.parametrize("family", ["gemma3", "qwen3-moe"])
def test_a_fitted_key_space(family: str):
    editor = quick_editor(family, edits=EDITS, key_space="whitened", threshold=0.8)
    told = editor.explain([EDITED, REPHRASED, OTHER, "Who wrote Hamlet?"])
    assert [explanation.fired for explanation in told] == [True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_another_dtype(dtype: torch.dtype):
    model = tiny_model().to(dtype)
    before = checksums(model)
    editor = Editor(model, tiny_tokenizer(), quick_editor().config)
    base = outputs(editor)
    editor.edit(EDITS)
    assert editor.explain(EDITED).fired
    assert outputs(editor)[0].dtype == dtype
    assert not torch.equal(outputs(editor)[0], base[0])
    editor.undo()
    assert same(outputs(editor), base)
    assert same_weights(model, before)


@each_family
@pytest.mark.parametrize("machine", ["bfloat16", "int8"])
def test_values_are_near_where_another_arithmetic_is_fast(machine: str, family: str, monkeypatch: pytest.MonkeyPatch):
    exact = quick_editor(family)
    fastest_in(machine, monkeypatch)
    rough = quick_editor(family, precision="auto")
    assert not torch.equal(value_of(rough, 1), value_of(exact, 1))
    torch.testing.assert_close(
        cosine_similarity(value_of(rough, 1), value_of(exact, 1), dim=0).item(), 1.0, atol=0.02, rtol=0
    )
