"""Inputs and output gradients of linear modules, and the running moments of what arrives in parts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from method_support import opened
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from horen import ConfigError, Edit, EditError, ModelError
from horen.editors.common.gradients import Moments, capture, layer_range, mlp_linears
from horen.editors.common.samples import plain_samples
from horen.model.contexts import Contexts
from horen.model.layout import Layout
from horen.model.partial.frozen import frozen
from horen.model.partial.tail import Sample
from support.editors import EDITED, REPHRASED, checksums, hooks_on, ids_of, same_weights
from support.tiny_models import HIDDEN, LAYERS, MIXTURES, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

SAMPLES = [Sample((5, 6, 7, 8), (9, 10)), Sample((17,), (18, 19, 20)), Sample((5, 11), (12, 4), lead=1)]
each_plain = pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt", "phi"])


def losses_by_hand(model: PreTrainedModel, samples: Sequence[Sample]) -> list[Tensor]:
    """−log p(target | prompt) of each sample alone."""
    found = []
    for sample in samples:
        ids = torch.tensor([*sample.prompt, *sample.target])
        logits = model(input_ids=ids[None]).logits[0]
        first = len(sample.prompt) + sample.lead
        found.append(cross_entropy(logits[first - 1 : -1], ids[first:], reduction="sum"))
    return found


@each_plain
def test_pairs_multiply_to_the_weights_gradients(family: str):
    model = tiny_model(family)
    linears = mlp_linears(model, [1, 3], "both")
    losses = losses_by_hand(model, SAMPLES)
    expected = torch.autograd.grad(torch.stack(losses).sum(), [model.get_parameter(linear.name) for linear in linears])
    with frozen(model):
        found = capture(model, linears, SAMPLES)
    torch.testing.assert_close(found.losses, torch.stack(losses).detach(), atol=1e-4, rtol=1e-4)
    for linear, inputs, gradients, weight in zip(linears, found.inputs, found.gradients, expected, strict=True):
        assert (inputs.shape[1], gradients.shape[1]) == (linear.d_in, linear.d_out)
        product = linear.as_weight(inputs.T @ gradients)
        torch.testing.assert_close(product, weight, atol=1e-5 * float(weight.abs().max()), rtol=1e-3)


def test_the_tokens_of_a_sample_are_its_own():
    model = tiny_model()
    linears = mlp_linears(model, [2], "out")
    with frozen(model):
        together = capture(model, linears, SAMPLES * 7)  # more than one batch
        for number, sample in enumerate(SAMPLES * 7):
            alone = capture(model, linears, [sample])
            mine = together.sample == number
            torch.testing.assert_close(together.inputs[0][mine], alone.inputs[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(together.gradients[0][mine], alone.gradients[0], atol=1e-5, rtol=1e-4)
            length = len(sample.prompt) + len(sample.target) - 1
            asked = [False] * (length - len(sample.target) + sample.lead)
            assert together.asked[mine].tolist() == asked + [True] * (len(sample.target) - sample.lead)


def test_which_modules_are_meant():
    model = tiny_model()
    prefix = "model.layers.1.mlp."
    names = {kind: [linear.name for linear in mlp_linears(model, [1], kind)] for kind in ("in", "out", "both")}
    assert names["in"] == [f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"]
    assert names["out"] == [f"{prefix}down_proj.weight"]
    assert names["both"] == names["in"] + names["out"]
    (down,) = mlp_linears(tiny_model("gpt2"), [0], "out")
    assert (down.d_in, down.d_out, down.transposed) == (4 * HIDDEN, HIDDEN, True)
    (up,) = mlp_linears(tiny_model("opt"), [0], "in")
    assert (up.d_in, up.d_out, up.transposed) == (HIDDEN, 48, False)


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixture_of_experts_is_refused(family: str):
    with pytest.raises(ModelError, match=r"layer 1 .* no single down projection.*choose layers with a plain MLP"):
        mlp_linears(tiny_model(family), [1], "out")


def test_layers_by_depth_or_number():
    layout = Layout.of(tiny_model())
    assert list(layer_range(0.0, 0.99, layout)) == list(range(LAYERS))
    assert list(layer_range(1, 2, layout)) == [1, 2]
    with pytest.raises(ConfigError, match="exchange them"):
        layer_range(2, 1, layout)
    with pytest.raises(ConfigError, match="last_layer=9"):
        layer_range(0, 9, layout)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_small_gradient(dtype: torch.dtype):
    model = tiny_model()
    linears = mlp_linears(model, [2], "out")
    with frozen(model):
        exact = capture(model, linears, SAMPLES)
    model.to(dtype)
    with frozen(model):
        found = capture(model, linears, SAMPLES)
    assert found.gradients[0].dtype == torch.float32
    torch.testing.assert_close(found.losses, exact.losses, atol=0.3, rtol=0.1)
    torch.testing.assert_close(found.gradients[0], exact.gradients[0], atol=0.1, rtol=0.3)


def test_what_is_not_finite_is_refused_and_no_hook_is_left():
    model = tiny_model()
    linears = mlp_linears(model, [2], "out")
    model.get_output_embeddings().weight.data.fill_(torch.inf)
    with frozen(model), pytest.raises(ModelError, match="not finite"):
        capture(model, linears, SAMPLES)
    assert hooks_on(model) == 0


def test_plain_samples():
    contexts = Contexts(tiny_model(), tiny_tokenizer(), ())
    edit = Edit(EDITED, "Rome", (REPHRASED, EDITED))
    open_ended, ended = plain_samples(contexts, [edit], end=False), plain_samples(contexts, [edit], end=True)
    assert [list(sample.prompt) for sample in ended] == [ids_of(EDITED), ids_of(REPHRASED)]
    assert {sample.target for sample in open_ended} == {tuple(ids_of(" Rome"))}
    assert {sample.target for sample in ended} == {(*ids_of(" Rome"), tiny_tokenizer().eos_token_id)}
    with pytest.raises(EditError, match="context"):
        plain_samples(contexts, [Edit("word " * 3000, "Rome")], end=True)


@pytest.mark.parametrize("name", ["ultraedit", "mend"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_methods_of_pairs_write_in_every_precision(name: str, dtype: torch.dtype):
    model = tiny_model("gpt2").to(dtype)
    before = checksums(model)
    method = opened(name, model)
    method.edit([Edit(EDITED, "Rome"), Edit("Hello", "blue")])
    changed = [weight for key, weight in checksums(model).items() if not torch.equal(weight, before[key])]
    assert len(changed) == (2 if name == "ultraedit" else 4)
    assert all(weight.dtype == dtype and bool(weight.isfinite().all()) for weight in changed)
    method.close()
    assert same_weights(model, before)


# --- moments -------------------------------------------------------------------------------------------------------


@example((2, []), 479393458, 0.0)  # two numbers so near to each other that ε shows beside their σ
@given(
    st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n - 1), max_size=6))),
    st.integers(0, 2**31),
    st.floats(-1e3, 1e3),
)
def test_moments_do_not_depend_on_the_parts(split: tuple[int, list[int]], seed: int, level: float):
    count, cuts = split
    rows = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + level
    moments = Moments(3)
    for part in rows.tensor_split(sorted(set(cuts))):
        moments.update(part)
    assert int(moments.count) == count
    torch.testing.assert_close(moments.mean, rows.mean(0))
    torch.testing.assert_close(moments.deviation, rows.std(0), atol=1e-7, rtol=1e-7)
    normal = moments.normalised(rows)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    epsilon = torch.finfo(torch.float32).eps
    torch.testing.assert_close(normal.std(0), rows.std(0) / (rows.std(0) + epsilon), atol=1e-6, rtol=0)


def test_moments_at_the_edges():
    moments, rows = Moments(2), torch.tensor([[3.0, 5.0]])
    assert torch.equal(moments.normalised(rows), rows)
    moments.update(rows)
    assert torch.equal(moments.normalised(rows + 1), torch.zeros(1, 2))  # nothing has varied yet
    moments.update(torch.tensor([[4.0, 5.0]]))
    found = moments.normalised(torch.tensor([[4.0, 9.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5 / 0.5**0.5, 0.0]]))  # μ = 3.5, σ = √0.5; the other stood still
    again = Moments(2)
    again.take(moments.to_dict())
    assert torch.equal(again.normalised(rows), moments.normalised(rows))
    with pytest.raises(ValueError, match="another size"):
        Moments(3).take(moments.to_dict())
    with pytest.raises(KeyError):
        Moments(2).take({})
