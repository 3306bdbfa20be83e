"""UltraEdit on tiny models: its closed form, and what it remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_support import opened
from torch import Tensor

from horen import Edit, ModelError, StoreError
from horen.editors import open_method
from horen.editors.common.gradients import Captured, capture, mlp_linears
from horen.editors.common.samples import plain_samples
from horen.editors.ultraedit import UltraEdit, UltraEditConfig
from horen.editors.ultraedit.method import ridge
from horen.model.partial.frozen import frozen
from horen.store import read_folder, write_folder
from support.editors import EDITED, OTHER, REPHRASED, facts
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

ONE, TWO = Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Mira Sand")


def ultraedit(family: str = "llama", **changes: Any) -> UltraEdit:
    method = opened("ultraedit", family=family, **changes)
    assert isinstance(method, UltraEdit)
    return method


def features(method: UltraEdit, edits: list[Edit]) -> Captured:
    with frozen(method.model):
        samples = plain_samples(method.contexts, edits, end=True)
        return capture(method.model, method._linears, samples)


def weights(method: UltraEdit) -> list[Tensor]:
    return [method.model.get_parameter(linear.name).detach().clone() for linear in method._linears]


def test_the_shift_worked_by_hand():
    inputs = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    values = torch.tensor([[-0.1], [0.4]], dtype=torch.float64)
    # HᵀH + I = diag(2, 5); HᵀV = (−0.1, 0.8).
    torch.testing.assert_close(ridge(inputs, values), torch.tensor([[-0.05], [0.16]], dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_the_shift_is_the_least_squares_solution(count: int, size: int, seed: int):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, size, generator=draw, dtype=torch.float64)
    values = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    found = ridge(inputs, values).requires_grad_()
    loss = (inputs @ found - values).square().sum() + found.square().sum()
    (slope,) = torch.autograd.grad(loss, found)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-8, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
def test_an_edit_is_the_closed_form_on_all_features_so_far(family: str):
    method = ultraedit(family, modules="both", learning_rate=1e-4)
    seen: list[list[tuple[Tensor, Tensor]]] = []
    for edit in (ONE, TWO):
        found, before = features(method, [edit]), weights(method)
        seen.append([(h[found.asked], d[found.asked]) for h, d in zip(found.inputs, found.gradients, strict=True)])
        method.edit([edit])
        for number, (linear, old, new) in enumerate(zip(method._linears, before, weights(method), strict=True)):
            normal = []
            for part in (0, 1):
                everything = torch.cat([turn[number][part] for turn in seen]).double()
                spread = everything.std(0)
                here = (seen[-1][number][part].double() - everything.mean(0)) / (spread + torch.finfo().eps)
                normal.append(here.where(spread > 0, 0.0))  # a unit that is off everywhere
            lengths, slopes = normal
            values = -1e-4 * lengths.square().sum(-1, keepdim=True) * slopes
            keys = seen[-1][number][0].double()
            expected = torch.linalg.solve(keys.T @ keys + torch.eye(linear.d_in, dtype=torch.float64), keys.T @ values)
            torch.testing.assert_close(new - old, linear.as_weight(expected).float(), atol=1e-5, rtol=1e-3)


def test_edits_of_one_call_are_one_shift():
    together, apart = ultraedit(), ultraedit()
    together.edit([ONE, TWO])
    apart.edit([ONE])
    apart.edit([TWO])
    tokens = int(features(together, [ONE, TWO]).asked.sum())
    assert {int(moments.count) for moments in (*together._moments.values(), *apart._moments.values())} == {tokens}
    assert not any(map(torch.equal, weights(together), weights(apart)))


def test_the_very_first_token_alone_changes_nothing():
    method = ultraedit(train_end=False)
    before = weights(method)
    method.edit([Edit("Hello", "a")])
    assert all(map(torch.equal, weights(method), before))


def test_edits_come_nearer():
    method = open_method(
        *("ultraedit", taught_model(), tiny_tokenizer()),
        settings={"first_layer": 0, "last_layer": 3, "modules": "both", "learning_rate": 1e-4},
    )
    assert isinstance(method, UltraEdit)
    before = features(method, facts()).losses
    method.edit(facts())
    assert bool((features(method, facts()).losses < before).all())


def test_statistics_are_saved_taken_back_and_kept_from_errors(tmp_path: Path):
    method = ultraedit()
    method.edit([ONE])
    method.save(tmp_path / "state")
    one = {name: tensor.clone() for name, tensor in method._statistics().items()}
    method.edit([TWO])
    two = weights(method)
    method.undo()
    assert all(torch.equal(tensor, one[name]) for name, tensor in method._statistics().items())
    again = ultraedit()
    again.restore(tmp_path / "state")
    assert all(torch.equal(tensor, one[name]) for name, tensor in again._statistics().items())
    again.edit([TWO])
    assert all(map(torch.equal, weights(again), two))

    kind = "state of the method ultraedit"
    found = read_folder(tmp_path / "state", kind=kind)
    tensors = {name: t[:1] if name.endswith("squares") else t for name, t in found.tensors.items()}
    write_folder(tmp_path / "bad", config=found.config, records=found.records, tensors=tensors, kind=kind)
    with pytest.raises(StoreError, match="another size"):
        method.restore(tmp_path / "bad")
    assert all(torch.equal(tensor, one[name]) for name, tensor in method._statistics().items())


def test_an_interruption_between_modules_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    method = ultraedit()
    method.edit([ONE])
    before, statistics = weights(method), {name: t.clone() for name, t in method._statistics().items()}
    asked: list[int] = []

    def interrupted(*given: Any) -> Tensor:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return ridge(*given)

    monkeypatch.setattr("horen.editors.ultraedit.method.ridge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        method.edit([TWO])
    assert all(map(torch.equal, weights(method), before))
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in method._statistics().items())


def test_presets_and_mixtures():
    assert UltraEditConfig.from_preset("paper").learning_rate == 1e-6
    layers = mlp_linears(tiny_model(), [3], "out")
    method = UltraEdit(tiny_model(), tiny_tokenizer())
    assert [linear.name for linear in method._linears] == [linear.name for linear in layers]
    with pytest.raises(ModelError, match="no single down projection"):
        UltraEdit(tiny_model("mixtral"), tiny_tokenizer())
