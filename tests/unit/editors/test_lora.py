"""Low-rank adapters: where they go, what they compute, and that they leave without a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from method_support import EDITS, fed, same
from method_support import opened as opened_method
from transformers import PreTrainedModel

from horen import Edit, MissingExtraError, ModelError
from horen.editors.lora import LoRA, LoRAConfig
from support.editors import EDITED, OTHER, checksums, ids_of, logits, same_weights
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

DOWN = {"llama": "down_proj", "gpt2": "c_proj", "opt": "fc2"}
ATTENTION = {
    "llama": ["q_proj", "v_proj"],
    "gpt2": ["c_attn"],
    "opt": ["v_proj", "q_proj"],
    "gpt-neox": ["query_key_value"],
    "phi": ["q_proj", "v_proj"],
    "mixtral": ["q_proj", "v_proj"],
}


def opened(model: PreTrainedModel | None = None, *, seed: int = 0, **settings: Any) -> LoRA:
    changes = {"max_steps": 2, "learning_rate": 0.1, "stop_loss": 0.0} | settings
    return LoRA(model or tiny_model(), tiny_tokenizer(), LoRAConfig(**changes), seed=seed)


def shape_of(model: PreTrainedModel) -> list[tuple[str, int, type, frozenset[str]]]:
    """Every module by name, with what is set on it."""
    return [(name, id(module), type(module), frozenset(vars(module))) for name, module in model.named_modules()]


def adapted(method: LoRA) -> list[str]:
    """Names of the modules of the first layer that have an adapter."""
    named = [name.split(".lora_A")[0] for name in method._adapter if ".lora_A." in name]
    return [name.rpartition(".")[2] for name in named if ".0." in name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_closing_leaves_no_trace(family: str, dtype: torch.dtype):
    model = tiny_model(family).to(dtype)
    model.get_input_embeddings().requires_grad_(False)
    shape, weights, before = shape_of(model), checksums(model), logits(model, ids_of(EDITED))
    learnable = [parameter.requires_grad for parameter in model.parameters()]
    configuration = model.config.to_dict()
    method = opened(model)
    method.edit(EDITS)
    assert not torch.equal(logits(model, ids_of(EDITED)), before)
    with method.disabled():
        assert torch.equal(logits(model, ids_of(EDITED)), before)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    method.close()
    method.close()
    assert shape_of(model) == shape
    assert same_weights(model, weights)
    assert [parameter.requires_grad for parameter in model.parameters()] == learnable
    assert model.config.to_dict() == configuration
    assert torch.equal(logits(model, ids_of(EDITED)), before)
    assert not any("peft" in type(module).__module__ for module in model.modules())
    for action in (lambda: method.edit(EDITS), method.undo, lambda: method.disabled().__enter__()):
        with pytest.raises(ModelError, match="closed"):
            action()


@pytest.mark.parametrize("family", DOWN)
def test_adapters_of_down_projections(family: str):
    method = opened(tiny_model(family))
    assert adapted(method) == [DOWN[family]]
    assert len(method._adapter) == 2 * 4


@pytest.mark.parametrize("family", ATTENTION)
def test_adapters_of_attention(family: str):
    method = opened(tiny_model(family), targets="attention")
    assert sorted(adapted(method)) == sorted(ATTENTION[family])
    before = fed(method)
    method.edit(EDITS)
    assert not same(fed(method), before)


def test_an_adapter_adds_its_low_rank_product():
    method = opened(rank=2, alpha=6.0)
    method.edit(EDITS)
    layer: Any = method.model.get_submodule("model.layers.1.mlp.down_proj")
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    name = "model.layers.1.mlp.down_proj.lora_{}.horen.weight"
    a, b = (method._adapter[name.format(letter)] for letter in "AB")
    assert a.shape == (2, 48)
    assert b.abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.base_layer(x) + 6 / 2 * x @ a.T @ b.T)


def test_adapters_start_as_nothing_and_by_the_seed():
    one, two, other = opened(), opened(), opened(seed=1)
    assert same(fed(one), fed(opened_method("none")))
    for name, parameter in one._adapter.items():
        assert torch.equal(parameter, two._adapter[name])
        assert torch.equal(parameter, other._adapter[name]) == (".lora_B." in name)
        assert parameter.abs().max() <= parameter.shape[1] ** -0.5


def test_batches_train_the_same_adapters_on_and_the_last_is_taken_back():
    method = opened()
    method.edit([Edit(EDITED, "Rome")])
    once = fed(method)
    method.edit([Edit(OTHER, "Oslo")])
    assert not same(fed(method), once)
    method.undo()
    assert same(fed(method), once)
    method.edit([Edit(EDITED, "Rome")])  # known: not trained again
    assert same(fed(method), once)


def test_an_interruption_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch):
    method = opened()
    method.edit([Edit(EDITED, "Rome")])
    before = fed(method)

    original, steps = torch.optim.Adam.step, 0

    def interrupted(optimizer: torch.optim.Adam) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        original(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        method.edit([Edit(OTHER, "Oslo")])
    assert same(fed(method), before)
    assert not any(parameter.requires_grad for parameter in method.model.parameters())


def test_a_state_is_the_adapters_tensors(tmp_path: Path):
    method = opened()
    method.edit(EDITS)
    method.save(tmp_path / "state")
    before, held = fed(method), {name: tensor.clone() for name, tensor in method._adapter.items()}
    assert method.stored_bytes() == sum(tensor.nbytes for tensor in held.values())
    method.edit([Edit(OTHER, "Oslo")])
    method.restore(tmp_path / "state")
    assert same(fed(method), before)
    assert all(torch.equal(method._adapter[name], tensor) for name, tensor in held.items())
    method.edit(EDITS)  # both are known
    assert same(fed(method), before)


def test_disabled_may_be_nested():
    method, base = opened(), fed(opened_method("none"))
    method.edit(EDITS)
    with method.disabled():
        with method.disabled():
            assert same(fed(method), base)
        assert same(fed(method), base)
    assert not same(fed(method), base)


def test_a_mixture_of_experts_has_adapters_in_its_attention_only():
    model = tiny_model("mixtral")
    shape = shape_of(model)
    with pytest.raises(ModelError, match="set targets to 'attention'"):
        opened(model)
    assert shape_of(model) == shape


def test_models_that_cannot_be_adapted_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model()
    with pytest.raises(ModelError, match="without offloading"):
        opened(tiny_model().to("meta"))
    stack: Any = model.base_model
    stack.gradient_checkpointing = True
    with pytest.raises(ModelError, match="gradient checkpointing"):
        opened(model)
    stack.gradient_checkpointing = False
    method = opened(model)
    with pytest.raises(ModelError, match="adapters of peft already"):
        opened(model)
    method.close()
    shape, learnable = shape_of(model), [parameter.requires_grad for parameter in model.parameters()]
    import peft  # noqa: PLC0415

    def broken(wrapped: Any, *_: Any, **__: Any) -> None:
        peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["layers.0.mlp.down_proj"]), wrapped)
        raise ValueError("no such layer")

    monkeypatch.setattr(peft, "get_peft_model", broken)
    with pytest.raises(ModelError, match="no such layer"):
        opened(model)
    assert shape_of(model) == shape
    assert [parameter.requires_grad for parameter in model.parameters()] == learnable


def test_without_peft(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model = tiny_model()
    with pytest.raises(MissingExtraError, match=r"pip install 'horen\[baselines\]'"):
        opened(model)
    assert not hasattr(model, "_horen_weights")


def test_the_published_settings():
    config = LoRAConfig.from_preset("paper")
    assert (config.targets, config.rank, config.alpha, config.learning_rate) == ("attention", 4, 32.0, 2e-4)
