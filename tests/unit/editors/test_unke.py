"""UnKE on tiny models: the state that generates the target, and the layer that is trained to give it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from method_support import CAREFULLY, each_family, opened, taught, texts
from torch import Tensor

from horen import DataError, Edit, ModelError
from horen.data import load_bank
from horen.editors.common.samples import plain_samples
from horen.editors.unke import Unke, UnkeConfig
from horen.editors.unke.layer import record, train_layer
from horen.editors.unke.states import find_shifts
from horen.model.layout import Layout, first_tensor
from horen.model.partial.frozen import frozen
from horen.model.partial.tail import Sample
from support.editors import EDITED, FACTS, OTHER, PROMPTS, REPHRASED, checksums, facts, ids_of, logits, same_weights
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

TEXTS = ("Seven green boats. apple banana cherry", "She lives in Oslo with two cats.")


def unke(name: str = "llama", **settings: Any) -> Unke:
    method = opened("unke", family=name, **settings)
    assert isinstance(method, Unke)
    return method


def careful(**settings: Any) -> Unke:
    method = taught("unke", **settings)
    assert isinstance(method, Unke)
    return method


def layer_outputs(method: Unke, row: Sequence[int]) -> Tensor:
    """What the trained layer gives for a row, [length, d]."""
    seen: list[Tensor] = []
    handle = method._layer.register_forward_hook(lambda _m, _i, output: seen.append(first_tensor(output)[0]))
    logits(method.model, row)
    handle.remove()
    return seen[0]


def samples(method: Unke, edits: Sequence[Edit]) -> list[Sample]:
    return plain_samples(method.contexts, edits, end=method.config.train_end)


def aims(method: Unke, edit: Edit) -> Tensor:
    """What the layer shall give for the prompt of an edit, before it is written, [length, d]."""
    given = samples(method, [edit])
    with frozen(method.model):
        found = find_shifts(method.model, method._layout, method._site, given, method.config)
        (call,) = record(
            *(method.model, method._layer, [given[0].prompt]), method._site.module, torch.stack([found[0].value])
        )
    return call.outputs[0]


# --- stage one -----------------------------------------------------------------------------------------------------


def test_stage_one_lowers_the_loss_to_the_target():
    method = careful()
    given = samples(method, facts())
    with frozen(method.model):
        find = (method.model, method._layout, method._site, given)
        start = find_shifts(*find, method.config.replace(max_steps=1, learning_rate=1e-9))
        found = find_shifts(*find, method.config)
    for before, after in zip(start, found, strict=True):
        assert after.loss < 0.1 < before.loss
        assert after.converged


def test_a_target_that_the_model_gives_already_needs_no_shift():
    method = careful(stop_probability=0.3)
    known = Edit(EDITED, texts(method, [EDITED])[0])
    with frozen(method.model):
        (found,) = find_shifts(method.model, method._layout, method._site, samples(method, [known]), method.config)
    assert not found.value.any()


@each_family
def test_the_aim_is_the_layers_output_with_the_shift_at_the_key_alone(family: str):
    method = unke(family)
    rows = [ids_of(EDITED), ids_of(OTHER), ids_of("Hello")]
    shifts = torch.randn(3, method._layout.hidden_size, generator=torch.Generator().manual_seed(0))
    plain = record(method.model, method._layer, rows)
    (call,) = record(method.model, method._layer, rows, method._site.module, shifts)
    moved = (call.outputs - plain[0].outputs).abs().amax(-1)
    assert float(moved[:, :-1].max()) == 0
    assert float(moved[:, -1].min()) > 0.01
    assert int(call.real.sum()) == sum(map(len, rows))
    for row, outputs, real in zip(sorted(rows, key=len), plain[0].outputs, call.real, strict=True):
        torch.testing.assert_close(outputs[real], layer_outputs(method, row), atol=1e-4, rtol=1e-4)


# --- stage two -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["layer", "mlp"])
def test_the_layer_learns_the_state_and_keeps_other_tokens(scope: str):
    method, row = careful(scope=scope), ids_of(EDITED)
    edit = Edit(EDITED, "Mira Sand")
    aim, before = aims(method, edit), layer_outputs(method, row)
    method.edit([edit])
    after = layer_outputs(method, row)
    distance = (aim - before)[-1].norm()
    assert (after - aim)[-1].norm() < 0.2 * distance
    assert (after - before)[:-1].norm(dim=-1).max() < 0.5 * (after - before)[-1].norm()
    assert texts(method, [EDITED]) == ["Mira Sand"]


def test_unrelated_texts_change_less_with_their_term_than_without(tmp_path: Path):
    place = tmp_path / "texts.txt"
    place.write_text("\n\n".join(TEXTS), encoding="utf-8")
    changes = {}
    for weight in (0.0, 1.0):
        method = careful(texts=str(place), preserve_weight=weight)
        before = [layer_outputs(method, ids_of(text)) for text in TEXTS]
        method.edit(facts()[:1])
        after = [layer_outputs(method, ids_of(text)) for text in TEXTS]
        changes[weight] = sum(float((one - two).square().sum()) for one, two in zip(before, after, strict=True))
    assert changes[1.0] < 0.3 * changes[0.0]


@each_family
@pytest.mark.parametrize("scope", ["layer", "mlp"])
def test_only_the_layer_changes(family: str, scope: str):
    method = unke(family, scope=scope)
    before = checksums(method.model)
    method.edit([Edit(EDITED, "Rome")])
    changed = {name for name, weight in method.model.named_parameters() if not torch.equal(weight, before[name])}
    layer = Layout.of(method.model).layers[1]
    own = {id(parameter) for parameter in layer.parameters()}
    members = {name for name, parameter in method.model.named_parameters() if id(parameter) in own}
    assert changed
    assert changed <= members
    attention = {name for name in changed if "attn" in name}
    assert bool(attention) is (scope == "layer")
    method.undo()
    assert same_weights(method.model, before)


def test_the_changes_of_one_step_by_hand():
    """Adam's first step is the rate against the sign of each gradient of the loss."""
    method = unke()
    layer, rows, shifts = method._layer, [ids_of(EDITED)], torch.ones(1, 32)
    wanted, kept = (
        record(method.model, layer, rows, method._site.module, shifts),
        record(method.model, layer, [ids_of(OTHER)]),
    )
    name = "mlp.down_proj.weight"
    changes = train_layer(layer, [name], wanted, kept, steps=1, rate=0.01, weight=1.0)
    inputs: list[Tensor] = []
    down: Any = layer.get_submodule("mlp.down_proj")
    handle = down.register_forward_pre_hook(lambda _m, given: inputs.append(given[0][0, -1]))
    logits(method.model, rows[0])
    handle.remove()
    # The gradient with respect to W of ‖W a − (W_0 a + 1)‖² at W_0 is −2·1·aᵀ.
    torch.testing.assert_close(changes[name], 0.01 * torch.ones(32, 1) * inputs[0].sign(), atol=1e-5, rtol=1e-4)


def test_edits_are_answered_and_end():
    method = careful()
    method.edit(facts())
    assert texts(method, list(FACTS)) == list(FACTS.values())


def test_a_rephrase_is_a_key_of_its_own():
    method = careful()
    method.edit([Edit(EDITED, "Mira Sand", (REPHRASED,))])
    assert texts(method, [EDITED, REPHRASED]) == ["Mira Sand", "Mira Sand"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype: torch.dtype):
    method = Unke(taught_model().to(dtype), tiny_tokenizer(), UnkeConfig(**CAREFULLY["unke"]))
    before = checksums(method.model)
    method.edit(facts()[:1])
    assert texts(method, [EDITED]) == ["Mira Sand"]
    assert {parameter.dtype for parameter in method.model.parameters()} == {dtype}
    method.close()
    assert same_weights(method.model, before)


def test_a_training_that_diverges_changes_nothing():
    method = unke(weight_rate=1e30)
    before = checksums(method.model)
    with pytest.raises(ModelError, match="smaller weight_rate"):
        method.edit([Edit(EDITED, "Rome")])
    assert same_weights(method.model, before)


# --- unrelated texts -----------------------------------------------------------------------------------------------


def test_unrelated_texts_are_drawn_by_the_seed():
    paragraphs = load_bank().paragraphs

    def drawn(seed: int, **settings: Any) -> list[str]:
        return Unke(tiny_model(), tiny_tokenizer(), UnkeConfig(**settings), seed=seed)._texts

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 20
    assert set(drawn(0)) <= set(paragraphs)
    assert set(paragraphs) < set(drawn(0, preserve_count=30))
    assert drawn(0, preserve_count=0) == drawn(0, preserve_weight=0) == []


def test_files_that_cannot_be_used(tmp_path: Path):
    place = tmp_path / "texts.txt"
    for content, message in ((b"\n \n", "holds no text"), (b"a\n\xff", "line 2: it is not UTF-8")):
        place.write_bytes(content)
        with pytest.raises(DataError, match=message):
            unke(texts=str(place))
    with pytest.raises(DataError, match="cannot be read"):
        unke(texts=str(tmp_path / "nothing"))
    unke().edit([Edit(prompt, "Rome") for prompt in PROMPTS])
