"""Training a wrapped model with gradient checkpointing: what is computed again is computed with the edit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import Edit, Editor
from support.editors import EDITED, OTHER, ids_of, logits, quick_editor
from support.tiny_models import each_family, seeded

pytestmark = pytest.mark.usefixtures("reading")

WAYS = [{"use_reentrant": False}, {"use_reentrant": True}]


def batch(text: str = EDITED) -> dict[str, Tensor]:
    ids, answer = ids_of(text), ids_of(" Mira Sand")
    return {
        "input_ids": torch.tensor([[*ids, *answer]]),
        "labels": torch.tensor([[*[-100] * len(ids), *answer]]),
    }


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def trained(editor: Editor, *texts: str) -> dict[str, Tensor]:
    """Gradients of losses whose calls are all made before the first is taken backward."""
    model: Any = editor.model.train()
    with seeded(0):  # some families drop out
        for loss in [model(**batch(text)).loss for text in texts]:
            loss.backward()
    return gradients(model)


@each_family
@pytest.mark.parametrize("value", ["vector", "state"])
@pytest.mark.parametrize("way", WAYS, ids=["usual", "reentrant"])
def test_gradients_are_those_without_checkpoints(family: str, value: str, way: dict[str, Any]):
    editor = quick_editor(family, value=value)
    model: Any = editor.model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # a prompt that is read with holes may wake nothing
            module.p = 0.0
    expected = trained(editor, EDITED, OTHER, EDITED)
    with editor.disabled():
        base = trained(editor, EDITED, OTHER, EDITED)
    model.gradient_checkpointing_enable(way)
    if way["use_reentrant"]:
        model.enable_input_require_grads()
    found = trained(editor, EDITED, OTHER, EDITED)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert any(not torch.allclose(expected[name], base[name]) for name in base)
    with editor.disabled():
        torch.testing.assert_close(trained(editor, EDITED, OTHER, EDITED), base, atol=1e-5, rtol=1e-4)
    assert torch.equal(logits(model.eval(), ids_of(EDITED)), logits(model, ids_of(EDITED)))


def test_what_is_computed_again_is_what_was():
    """Neither edits that were written meanwhile, nor a block without edits, nor another thread changes it."""
    editor = quick_editor(value="vector")
    model: Any = editor.model.train()
    model(**batch()).loss.backward()
    expected = gradients(model)
    model.gradient_checkpointing_enable()
    loss = model(**batch()).loss
    with editor.disabled():
        loss.backward()
    torch.testing.assert_close(gradients(model), expected)
    loss = model(**batch()).loss
    editor.supersede(1, "Paris")
    editor.edit(Edit(OTHER, "Oslo"))
    loss.backward()
    torch.testing.assert_close(gradients(model), expected)
    editor.undo()
    editor.undo()
    loss = model(**batch()).loss
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    torch.testing.assert_close(gradients(model), expected)
    with editor.disabled():
        loss = model(**batch()).loss
    loss.backward()
    assert any(not torch.allclose(grad, expected[name]) for name, grad in gradients(model).items())


def test_unwrapping_leaves_the_checkpoints_as_they_were():
    editor = quick_editor(value="vector")
    model: Any = editor.model
    model.gradient_checkpointing_enable()
    before = [module.__dict__.get("_gradient_checkpointing_func") for module in model.modules()]
    trained(editor, EDITED)
    editor.unwrap()
    assert [module.__dict__.get("_gradient_checkpointing_func") for module in model.modules()] == before
    model(**batch()).loss.backward()


def test_low_rank_adapters_with_checkpoints():
    peft = pytest.importorskip("peft")
    editor = quick_editor(value="vector")
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
    lora: Any = peft.get_peft_model(editor.model, config).train()
    lora(**batch()).loss.backward()
    expected = gradients(lora)
    lora.gradient_checkpointing_enable()
    lora.enable_input_require_grads()
    lora(**batch()).loss.backward()
    torch.testing.assert_close(gradients(lora), expected, atol=1e-5, rtol=1e-4)
    assert expected


def test_a_trainer_with_checkpoints(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    editor = quick_editor(value="vector")
    rows = [{name: tensor[0].tolist() for name, tensor in batch().items()}] * 2
    arguments = transformers.TrainingArguments(
        str(tmp_path), gradient_checkpointing=True, max_steps=2, per_device_train_batch_size=1, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(editor.model, arguments, train_dataset=rows)
    assert trainer.train().global_step == 2
