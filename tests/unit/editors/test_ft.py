"""Constrained fine-tuning: what it changes, by how much, and what it minimises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_support import EDITS
from torch import Tensor

from horen import ConfigError, Edit, EditError, ModelError
from horen.editors.common import finetuning
from horen.editors.common.finetuning import target_losses
from horen.editors.common.samples import plain_samples
from horen.editors.ft import FT, FTConfig
from horen.model.partial.precision import bfloat16_is_fast
from horen.model.partial.tail import Sample
from support.editors import EDITED, REPHRASED, checksums, ids_of, logits
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

NAMES = {
    "llama": "model.layers.1.mlp.down_proj.weight",
    "gemma3": "model.layers.1.mlp.down_proj.weight",
    "gpt2": "transformer.h.1.mlp.c_proj.weight",
    "opt": "model.decoder.layers.1.fc2.weight",
}
each_family = pytest.mark.parametrize("family", NAMES)


def opened(family: str = "llama", dtype: torch.dtype = torch.float32, **settings: Any) -> FT:
    changes = {"layer": 1, "unit": "absolute", "max_steps": 5, "stop_loss": 0.0} | settings
    return FT(tiny_model(family).to(dtype), tiny_tokenizer(), FTConfig(**changes))


def moved(method: FT, before: dict[str, Tensor]) -> dict[str, Tensor]:
    now = checksums(method.model)
    return {name: now[name] - before[name] for name in now if not torch.equal(now[name], before[name])}


@each_family
def test_only_one_projection_changes_and_no_weight_by_more_than_the_norm(family: str):
    method = opened(family, learning_rate=0.01, norm=0.015)
    before = checksums(method.model)
    method.edit(EDITS)
    change = moved(method, before)
    assert list(change) == [NAMES[family]]
    assert 0.0149 < float(change[NAMES[family]].abs().max()) <= 0.015 + 1e-6
    method.edit([Edit("Hello", "Oslo")])
    assert float(moved(method, before)[NAMES[family]].abs().max()) > 0.016  # each batch has a norm of its own


def test_edits_may_share_one_norm_around_the_original():
    method = opened(learning_rate=0.01, norm=0.015, norm_from="original")
    before = checksums(method.model)
    for edit in EDITS:
        method.edit([edit])
    assert float(moved(method, before)[NAMES["llama"]].abs().max()) <= 0.015 + 1e-6


def test_without_a_norm_weights_are_free():
    method = opened(learning_rate=0.01, norm=0.0)
    before = checksums(method.model)
    method.edit(EDITS)
    assert float(moved(method, before)[NAMES["llama"]].abs().max()) > 0.02


def test_the_first_step_goes_by_the_learning_rate_against_the_gradient():
    """Adam's first step is the learning rate in each coordinate, against the gradient's sign."""
    method = opened(learning_rate=1e-3, norm=0.0, max_steps=1, precision="model")
    weight = method.model.get_parameter(NAMES["llama"]).detach().clone().requires_grad_()
    samples = plain_samples(method.contexts, EDITS, end=True)
    target_losses(method.model, samples, {NAMES["llama"]: weight}).mean().backward()
    before = checksums(method.model)
    method.edit(EDITS)
    assert weight.grad is not None
    plain = weight.grad.abs() > 1e-5
    step = moved(method, before)[NAMES["llama"]]
    torch.testing.assert_close(step[plain], -1e-3 * weight.grad.sign()[plain], atol=2e-6, rtol=0)


def test_the_unit_is_the_size_of_the_weights():
    method = opened(learning_rate=0.05, norm=0.0, max_steps=1, unit="weight")
    before = checksums(method.model)
    method.edit(EDITS)
    size = float(before[NAMES["llama"]].square().mean().sqrt())
    assert float(moved(method, before)[NAMES["llama"]].abs().max()) == pytest.approx(0.05 * size, rel=1e-3)


@each_family
def test_the_loss_is_that_of_the_target_tokens(family: str):
    model = tiny_model(family)
    samples = [Sample((3, 4, 5, 6), (7, 8)), Sample((9,), (10, 11, 12)), Sample((5, 3), (4,))]
    losses = target_losses(model, samples)
    for sample, loss in zip(samples, losses.tolist(), strict=True):
        row = sample.prompt + sample.target
        given = logits(model, row)[len(sample.prompt) - 1 : -1].log_softmax(-1)
        wanted = -given[range(len(sample.target)), list(sample.target)].mean()
        assert loss == pytest.approx(float(wanted), rel=1e-4)


def test_how_many_are_computed_at_once_decides_nothing():
    same = {"learning_rate": 1e-3, "precision": "model"}
    one, other = opened(**same), opened(**same, batch_tokens=1)
    for method in (one, other):
        method.edit(EDITS)
    weights = [method.model.get_parameter(NAMES["llama"]) for method in (one, other)]
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-4)


@each_family
def test_losses_in_bfloat16_lead_nearly_the_same_way(family: str):
    if not bfloat16_is_fast(tiny_model()):
        pytest.skip("this processor is not faster at bfloat16")
    changes = {}
    for precision in ("auto", "model"):
        method = opened(family, learning_rate=1e-3, norm=0.0, precision=precision)
        before = checksums(method.model)
        method.edit(EDITS)
        (change,) = moved(method, before).values()
        assert change.dtype == torch.float32
        changes[precision] = change.flatten()
    assert not torch.equal(changes["auto"], changes["model"])
    assert float(torch.cosine_similarity(changes["auto"], changes["model"], dim=0)) > 0.95


def test_training_stops_early(monkeypatch: pytest.MonkeyPatch):
    calls: list[float] = []
    original = finetuning.summed_losses

    def counted(*arguments: Any, **options: Any) -> Tensor:
        calls.append(0.0)
        return original(*arguments, **options)

    monkeypatch.setattr(finetuning, "summed_losses", counted)
    method = opened(max_steps=30, stop_loss=1e9)
    before = checksums(method.model)
    method.edit(EDITS)
    assert len(calls) == 1
    assert not moved(method, before)


def test_the_end_token_and_rephrases_are_trained():
    method = opened()
    edit = Edit(EDITED, "Rome", (REPHRASED,))
    ended, plain = (plain_samples(method.contexts, [edit], end=end) for end in (True, False))
    assert [list(sample.prompt) for sample in ended] == [ids_of(EDITED), ids_of(REPHRASED)]
    assert [(*sample.target, tiny_tokenizer().eos_token_id) for sample in plain] == [s.target for s in ended]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype: torch.dtype):
    method = opened(dtype=dtype, learning_rate=0.01, norm=0.02)
    before = checksums(method.model)
    method.edit(EDITS)
    assert set(moved(method, before)) == {NAMES["llama"]}
    assert method.model.get_parameter(NAMES["llama"]).dtype == dtype
    method.close()
    assert not moved(method, before)


def test_a_loss_that_is_no_number_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    method = opened()
    before = checksums(method.model)
    monkeypatch.setattr("horen.editors.ft.method.target_losses", lambda *_: torch.tensor([torch.nan]).requires_grad_())
    with pytest.raises(EditError, match="lower learning_rate"):
        method.edit(EDITS)
    assert not moved(method, before)


def test_a_mixture_of_experts_is_refused_and_left_alone():
    model = tiny_model("mixtral")
    with pytest.raises(ModelError, match="not one down projection"):
        FT(model, tiny_tokenizer())
    assert not hasattr(model, "_horen_weights")
    with pytest.raises(ConfigError, match="layer=4 names no layer"):
        FT(tiny_model(), tiny_tokenizer(), FTConfig(layer=4))


def test_the_published_settings():
    config = FTConfig.from_preset("paper")
    assert (config.layer, config.learning_rate, config.norm, config.unit) == (0, 5e-4, 5e-4, "absolute")
    assert (config.max_steps, config.stop_loss, config.train_end) == (25, 0.03, False)
