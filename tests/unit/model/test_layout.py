from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, MambaConfig, T5Config

from horen import ConfigError, HorenConfig, ModelError
from horen.config import resolve_layer
from horen.model.layout import Layout, first_tensor, read_feature_sizes, with_first_tensor
from support.tiny_models import FAMILIES, HIDDEN, LAYERS, MIXTURES, tiny_model

# Where each family keeps its MLP, as its source says: path of the first and of the last module.
MLP = {
    "llama": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
    "qwen2": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
    "qwen3": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
    "gemma3": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
    "gpt2": ("transformer.h.{}.mlp", "transformer.h.{}.mlp"),
    "gpt-neox": ("gpt_neox.layers.{}.mlp", "gpt_neox.layers.{}.mlp"),
    "opt": ("model.decoder.layers.{}.fc1", "model.decoder.layers.{}.fc2"),
    "phi": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
    "mixtral": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
    "qwen3-moe": ("model.layers.{}.mlp", "model.layers.{}.mlp"),
}
DOWN = {
    "llama": "model.layers.{}.mlp.down_proj",
    "qwen2": "model.layers.{}.mlp.down_proj",
    "qwen3": "model.layers.{}.mlp.down_proj",
    "gemma3": "model.layers.{}.mlp.down_proj",
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "gpt-neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "opt": "model.decoder.layers.{}.fc2",
    "phi": "model.layers.{}.mlp.fc2",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_and_mlps_are_found(family: str):
    model = tiny_model(family)
    layout = Layout.of(model)
    assert len(layout.layers) == LAYERS
    assert layout.hidden_size == HIDDEN
    for number in range(LAYERS):
        first, last = layout.mlp(number)
        assert first is model.get_submodule(MLP[family][0].format(number))
        assert last is model.get_submodule(MLP[family][1].format(number))


@pytest.mark.parametrize("family", FAMILIES)
def test_down_projections_are_found(family: str):
    model = tiny_model(family)
    found = Layout.of(model).down_projection(2)
    assert found is (None if family in MIXTURES else model.get_submodule(DOWN[family].format(2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_sites(family: str):
    model = tiny_model(family)
    layout = Layout.of(model)
    first, last = layout.mlp(1)
    hidden = layout.down_projection(1)
    for name, module, side in (
        ("mlp_input", first, "input"),
        ("mlp_output", last, "output"),
        ("mlp_hidden", hidden, "input"),
        ("layer_output", layout.layers[1], "output"),
    ):
        config = HorenConfig(write_layer=3, read_sites=f"{name}@1")
        if module is None:
            with pytest.raises(ConfigError, match=r"mlp_hidden.*auto"):
                layout.read_sites(config)
            continue
        (site,) = layout.read_sites(config)
        assert (site.layer, site.module, site.side, site.name) == (1, module, side, name)
        layout.check_order(site, layout.write_site(config))
    (auto,) = layout.read_sites(HorenConfig(read_sites="auto@1"))
    assert auto.name == ("mlp_input" if hidden is None else "mlp_hidden")
    for kind, place in {"state": layout.layers[3], "vector": layout.mlp(3)[1], "lora": layout.mlp(3)[1]}.items():
        write = layout.write_site(HorenConfig(write_layer=3, value=kind))
        assert (write.layer, write.module, write.side, write.replaces) == (3, place, "output", kind == "state")


def test_depths_that_name_one_layer_are_one_site():
    layout = Layout.of(tiny_model())
    (site,) = layout.read_sites(HorenConfig(read_sites="mlp_input@0.01+mlp_input@0.02"))
    assert (site.layer, site.name) == (0, "mlp_input")


@pytest.mark.parametrize("family", FAMILIES)
def test_feature_size_is_that_of_the_activation(family: str):
    model = tiny_model(family)
    layout = Layout.of(model)
    widths = {"gpt2": 4 * HIDDEN}
    for name, expected in (("mlp_input", HIDDEN), ("mlp_output", HIDDEN), ("mlp_hidden", widths.get(family, 48))):
        if name == "mlp_hidden" and family in MIXTURES:
            continue
        sites = layout.read_sites(HorenConfig(read_sites=f"layer_output@2+{name}@1"))
        assert [site.layer for site in sites] == [1, 2]
        assert read_feature_sizes(model, sites) == [expected, HIDDEN]


@pytest.mark.parametrize(
    ("layer", "count", "expected"),
    [(0.0, 4, 0), (0, 4, 0), (0.5, 4, 2), (0.99, 4, 3), (1, 4, 1), (1.0, 4, 1), (3, 4, 3), (0.8, 30, 24), (0.4, 1, 0)],
)
def test_a_layer_is_a_depth_or_a_number(layer: float, count: int, expected: int):
    assert resolve_layer(layer, count, "read_layer") == expected


@pytest.mark.parametrize("layer", [4, 5, 400])
def test_a_layer_that_is_not_there(layer: int):
    layout = Layout.of(tiny_model())
    with pytest.raises(ConfigError, match=rf"read_sites={layer}.*4.*0 to 3"):
        layout.read_sites(HorenConfig(read_sites=f"auto@{layer}"))
    with pytest.raises(ConfigError, match=rf"write_layer={layer}.*4.*0 to 3"):
        layout.write_site(HorenConfig(write_layer=layer))


@pytest.mark.parametrize(
    ("settings", "fine"),
    [
        ({"read_sites": "mlp_hidden@1", "write_layer": 1}, True),
        ({"read_sites": "mlp_input@1", "write_layer": 1}, True),
        ({"read_sites": "mlp_output@0", "write_layer": 1}, True),
        ({"read_sites": "mlp_output@1", "write_layer": 1}, False),
        ({"read_sites": "layer_output@0", "write_layer": 1}, True),
        ({"read_sites": "layer_output@1", "write_layer": 1}, False),
        ({"read_sites": "mlp_input@2", "write_layer": 1}, False),
    ],
)
def test_a_prompt_is_read_before_its_value_is_written(settings: dict[str, Any], fine: bool):
    layout, config = Layout.of(tiny_model()), HorenConfig(**settings)
    if fine:
        layout.check_order(layout.read_sites(config)[-1], layout.write_site(config))
        return
    with pytest.raises(ConfigError, match=r"read_sites=.*write_layer=.*earlier layer in read_sites"):
        layout.check_order(layout.read_sites(config)[-1], layout.write_site(config))


NO_MLP = {
    "mamba": lambda: AutoModelForCausalLM.from_config(
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    ),
    "t5": lambda: AutoModelForSeq2SeqLM.from_config(
        T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=32, num_layers=3, num_heads=4, decoder_start_token_id=0)
    ),
}


@pytest.mark.parametrize("kind", ["mamba", "t5"])
def test_a_model_without_editable_layers_is_refused(kind: str):
    with pytest.raises(ModelError, match=r"decoder-only|has no MLP"):
        Layout.of(NO_MLP[kind]())


def test_a_model_without_layers_is_refused():
    model = tiny_model()
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM has no list of 4 decoder layers.*decoder-only"):
        Layout.of(model)


def test_a_layer_without_mlp_is_refused():
    model = tiny_model()
    del model.model.layers[2].mlp
    layout = Layout.of(model)
    with pytest.raises(ModelError, match=r"Layer 2 .*has no MLP.*another layer"):
        layout.mlp(2)


def test_the_hidden_states_of_an_output():
    states, router = torch.zeros(1, 2), torch.ones(1)
    assert first_tensor(states) is states
    assert first_tensor((states, router)) is states
    other = torch.ones(1, 2)
    assert with_first_tensor(states, other) is other
    assert with_first_tensor((states, router), other) == (other, router)
    with pytest.raises(ModelError, match="tuple"):
        first_tensor(("a", "b"))
