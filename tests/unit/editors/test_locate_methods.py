"""ROME, MEMIT and AlphaEdit on whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from method_support import EDITS, LOCATING, QUICKLY, answers, opened, prompt_logits, taught, texts
from torch import Tensor

from horen import ConfigError, Edit, EditError, ModelError
from horen.editors import open_method
from horen.editors.common.locate import LocateMethod, SpreadingMethod
from horen.editors.common.locate import method as locating
from horen.model.layout import Site
from horen.model.partial.frozen import frozen
from support.arithmetics import fastest_in
from support.editors import EDITED, FACTS, OTHER, PROMPTS, checksums, facts, same_weights
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

ONE = Edit(EDITED, "Rome", subject="France")
TWO = Edit("Who wrote Hamlet?", "Mira Sand", ("The author of Hamlet is",), "Hamlet")
each_locating = pytest.mark.parametrize("name", LOCATING)
each_spreading = pytest.mark.parametrize("name", ["memit", "alphaedit"])
each_dense = pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])


def located(name: str, **options: Any) -> LocateMethod:
    found = opened(name, **options)
    assert isinstance(found, LocateMethod)
    return found


def matrix(method: LocateMethod, number: int = 0) -> Tensor:
    """W [d_v, d_k] of a projection."""
    projection = method._projections[number]
    return projection.laid(method.model.get_parameter(projection.name).detach()).double().clone()


def at_subjects(method: LocateMethod, edits: list[Edit], site: Site) -> Tensor:
    (found,) = method._means(method._requested(edits), [site])
    return found


def trained(method: LocateMethod, edits: list[Edit], onto: Site) -> Tensor:
    """The values that the next edit will train."""
    requests = method._requested(edits)
    with frozen(method.model):
        return method._train(requests, method._means(requests, [onto])[0])


# --- ROME ------------------------------------------------------------------------------------------------------------


@each_dense
def test_romes_edit_maps_the_key_to_the_value(family: str):
    method = located("rome", family=family)
    (projection,) = method._projections
    key = at_subjects(method, [ONE], projection.site)[0].double()
    before, output = matrix(method), at_subjects(method, [ONE], method._output)
    value = trained(method, [ONE], method._output)
    assert 0 < float(value.norm()) <= 4.001 * float(output.norm())
    method.edit([ONE])
    change = matrix(method) - before
    torch.testing.assert_close(change @ key, value[0].double(), atol=1e-4, rtol=1e-3)
    # The right factor is C⁻¹ k*.
    direction = torch.linalg.solve(method._moments()[0], key)
    cosine = (change.T @ value[0].double()) @ direction / (change.T @ value[0].double()).norm() / direction.norm()
    assert float(cosine) > 0.99
    # The MLP now gives so much more at the subject's last token, averaged over the contexts.
    torch.testing.assert_close(at_subjects(method, [ONE], method._output), output + value, atol=1e-3, rtol=1e-3)


def test_romes_edits_are_written_one_after_another():
    together, apart = located("rome"), located("rome")
    together.edit([ONE, TWO])
    apart.edit([ONE])
    apart.edit([TWO])
    assert torch.equal(matrix(together), matrix(apart))
    ranks = torch.linalg.matrix_rank(matrix(together) - matrix(located("rome")), rtol=1e-4)
    assert int(ranks) == 3  # the rephrase is an edit of its own


# --- MEMIT and AlphaEdit ---------------------------------------------------------------------------------------------


def ends(method: LocateMethod) -> Site:
    last = method._projections[-1].layer
    return Site(last, method._layout.layers[last], "output", "layer_output")


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_a_batch_reaches_its_hidden_states_through_several_layers(family: str):
    weights = {"covariance_weight": 1e-6, "covariance_unit": "absolute"}
    method = located("memit", family=family, first_layer=0, last_layer=2, **weights)
    before, old = at_subjects(method, [ONE, TWO], ends(method)), [matrix(method, number) for number in range(3)]
    value = trained(method, [ONE, TWO], ends(method))
    assert value.shape[0] == 3
    method.edit([ONE, TWO])
    torch.testing.assert_close(at_subjects(method, [ONE, TWO], ends(method)), before + value, atol=2e-3, rtol=1e-2)
    assert all(not torch.equal(matrix(method, number), old[number]) for number in range(3))


def test_the_first_layer_takes_its_share_of_the_residual():
    weights = {"covariance_weight": 1e-6, "covariance_unit": "absolute"}
    method = located("memit", first_layer=0, last_layer=2, **weights)
    first = method._projections[0]
    key, before = at_subjects(method, [ONE], first.site)[0].double(), matrix(method)
    value = trained(method, [ONE], ends(method))[0]
    method.edit([ONE])
    torch.testing.assert_close((matrix(method) - before) @ key, value.double() / 3, atol=1e-3, rtol=1e-2)


def test_a_greater_weight_of_the_covariance_changes_less():
    sizes = []
    for weight in (0.01, 1.0, 100.0):
        method = located("memit", covariance_weight=weight)
        before = matrix(method)
        method.edit([ONE, TWO])
        sizes.append(float((matrix(method) - before).norm()))
    assert sizes[0] > sizes[1] > sizes[2] > 0
    wide = located("memit", covariance_weight=48.0, covariance_unit="absolute")
    wide.edit([ONE, TWO])
    assert float((matrix(wide) - before).norm()) == pytest.approx(sizes[1], rel=1e-5)  # d_k is 48


def test_alphaedit_leaves_the_keys_of_the_text_where_they_were():
    method = located("alphaedit", tokens=20, threshold=1e-3)  # fewer tokens than a key has coordinates
    (moment,) = method._moments()
    before = matrix(method)
    method.edit([ONE, TWO])
    change = matrix(method) - before
    assert float(change.norm()) > 1e-3
    # The mean of ‖Δ k‖² over the text's keys, against what a change of this size does to keys of this size.
    assert float((change @ moment @ change.T).trace()) < 1e-6 * float(change.norm() ** 2 * moment.trace())


def test_alphaedit_gathers_the_keys_of_its_edits(tmp_path: Path):
    method = located("alphaedit")
    (projection,) = method._projections
    first = at_subjects(method, [ONE], projection.site)
    method.edit([ONE])
    torch.testing.assert_close(method._statistics()["layer-1"], first.T @ first)
    second = at_subjects(method, [TWO], projection.site)
    method.edit([TWO])
    both = first.T @ first + second.T @ second
    torch.testing.assert_close(method._statistics()["layer-1"], both)
    assert method.stored_bytes() == matrix(method).numel() * 4 + both.nbytes
    method.save(tmp_path / "state")
    method.undo()
    torch.testing.assert_close(method._statistics()["layer-1"], first.T @ first)
    method.restore(tmp_path / "state")
    torch.testing.assert_close(method._statistics()["layer-1"], both)
    again = located("alphaedit")
    again.edit([TWO])
    assert not torch.allclose(matrix(again), matrix(method))


def test_alphaedit_without_a_null_space():
    method = located("alphaedit", threshold=1e-12, eigenvalue_unit="absolute")
    before = checksums(method.model)
    with pytest.raises(ConfigError, match="leaves no null space in layer 1"):
        method.edit([ONE])
    assert same_weights(method.model, before)


@each_spreading
def test_a_normalised_residual_is_not_spread(name: str):
    with pytest.raises(ModelError, match="first_layer and last_layer name one layer"):
        opened(name, family="gemma3", first_layer=0, last_layer=1)
    method = opened(name, family="gemma3", first_layer=1, last_layer=1)
    assert isinstance(method, SpreadingMethod)


@each_spreading
def test_layers_in_the_wrong_order(name: str):
    with pytest.raises(ConfigError, match="must not come after"):
        opened(name, first_layer=2, last_layer=1)
    with pytest.raises(ConfigError, match="last_layer=9 names no layer"):
        opened(name, last_layer=9)


# --- all three -------------------------------------------------------------------------------------------------------


@each_locating
def test_edits_are_answered_and_end(name: str):
    method = taught(name)
    method.edit(facts())
    assert texts(method, list(FACTS)) == list(FACTS.values())
    method.undo()
    assert texts(method, list(FACTS)) != list(FACTS.values())


@pytest.mark.parametrize("name", ["rome", "memit"])
def test_a_corrected_edit_has_its_new_answer(name: str):
    method = taught(name)
    method.edit([Edit(EDITED, "Oslo"), Edit("Who wrote Hamlet?", "blue")])
    method.edit([Edit(EDITED, "Rome")])
    assert texts(method, [EDITED]) == ["Rome"]


def test_values_do_not_depend_on_what_is_trained_beside_them():
    method, alone = located("memit"), located("memit", batch_tokens=1)
    both = [ONE, Edit("Hello", "William Shakespeare wrote it in London, long ago"), TWO]
    values = trained(method, both, ends(method))
    torch.testing.assert_close(values, trained(alone, both, ends(alone)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(values[:1], trained(method, [ONE], ends(method)), atol=1e-3, rtol=1e-3)


def test_training_is_checked_in_the_models_arithmetic(monkeypatch: pytest.MonkeyPatch):
    fastest_in("bfloat16", monkeypatch)
    method = taught("memit", precision="auto")
    method.edit(facts())
    assert texts(method, list(FACTS)) == list(FACTS.values())


@each_locating
def test_a_subject_is_where_an_edit_is_written(name: str):
    method = located(name)
    base = prompt_logits(method, EDITED)
    method.edit([ONE])
    edited = prompt_logits(method, EDITED)
    last = len(tiny_tokenizer()("The capital of France")["input_ids"]) - 1
    moved = (edited - base).norm(dim=-1)
    assert int(moved.argmax()) == last


@each_locating
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(name: str, dtype: torch.dtype):
    method = opened(name, tiny_model().to(dtype))
    base = answers(method, PROMPTS)
    method.edit(EDITS)
    assert answers(method, PROMPTS)[0] != base[0]
    assert method.model.dtype == dtype


@each_locating
@pytest.mark.parametrize("family", ["mixtral", "qwen3-moe"])
def test_a_mixture_of_experts_is_refused(name: str, family: str):
    model = tiny_model(family)
    for _ in range(2):  # what is refused leaves no mark
        with pytest.raises(ModelError, match=r"writes into one down projection.*'grace'"):
            open_method(name, model, tiny_tokenizer(), settings=QUICKLY[name])


@each_locating
def test_an_interrupted_list_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    method = located(name)
    method.edit([ONE])
    before = checksums(method.model)
    known = {key: tensor.clone() for key, tensor in method._statistics().items()}
    left = [1]

    def interrupted(*given: Any) -> Tensor:
        if name == "rome" and left:
            left.pop()
            return train(*given)
        raise KeyboardInterrupt

    train = locating.train
    monkeypatch.setattr(locating, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        method.edit([TWO, Edit(OTHER, "Oslo")])
    assert same_weights(method.model, before)
    assert all(torch.equal(tensor, known[key]) for key, tensor in method._statistics().items())
    monkeypatch.undo()
    method.undo()
    assert not same_weights(method.model, before)


@each_locating
def test_a_list_with_an_edit_that_cannot_be_encoded_changes_nothing(name: str):
    method = located(name)
    before = checksums(method.model)
    with pytest.raises(EditError, match="context holds"):
        method.edit([ONE, Edit("Hello " * 3000, "Rome")])
    assert same_weights(method.model, before)


@each_locating
def test_a_text_that_is_not_there(name: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        opened(name, text=str(tmp_path / "nothing.txt"))
