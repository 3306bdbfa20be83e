from __future__ import annotations

import json

import pytest
import torch

from horen.model.fingerprint import difference, fingerprint
from support.tiny_models import FAMILIES, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_model_has_the_same_print(family: str):
    one, two = fingerprint(tiny_model(family)), fingerprint(tiny_model(family))
    assert one == two
    assert difference(one, two) is None


def test_it_survives_json():
    made = fingerprint(tiny_model())
    assert difference(json.loads(json.dumps(made)), made) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_another_architecture_differs(family: str):
    made = fingerprint(tiny_model(family))
    for other in FAMILIES:
        found = difference(made, fingerprint(tiny_model(other)))
        # Llama and Mistral-like families may name their weights alike; then the weights differ.
        assert (found is None) == (other == family)
    assert difference(made, fingerprint(tiny_model("llama", num_hidden_layers=5))) == "its architecture differs"


def test_other_weights_differ():
    assert difference(fingerprint(tiny_model()), fingerprint(tiny_model(seed=1))) == "its weights differ"


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_one_changed_weight_differs(family: str):
    model = tiny_model(family)
    before = fingerprint(model)
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        place = flat.numel() // 2
        kept = flat[place].item()
        flat[place] = kept + 1e-3
        assert difference(before, fingerprint(model)) == "its weights differ", name
        flat[place] = kept
    assert difference(before, fingerprint(model)) is None


def test_weights_that_changed_places_differ():
    model = tiny_model()
    before = fingerprint(model)
    weight = model.model.layers[1].mlp.down_proj.weight.data
    weight[[3, 4]] = weight[[4, 3]]
    assert difference(before, fingerprint(model)) == "its weights differ"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_another_dtype_of_the_same_weights_is_the_same(family: str, dtype: torch.dtype):
    made = fingerprint(tiny_model(family))
    other = fingerprint(tiny_model(family).to(dtype))
    assert other["dtype"] != made["dtype"]
    assert difference(made, other) is None
    assert difference(other, made) is None


def test_another_dtype_of_other_weights_differs():
    made = fingerprint(tiny_model())
    assert difference(made, fingerprint(tiny_model(seed=1).to(torch.bfloat16))) == "its weights differ"


def test_hooks_and_training_do_not_matter():
    model = tiny_model()
    before = fingerprint(model)
    model.train()
    model.model.layers[0].register_forward_hook(lambda *_: None)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert fingerprint(model) == before
