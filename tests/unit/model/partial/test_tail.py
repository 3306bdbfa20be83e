from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from horen.model.layout import Layout
from horen.model.partial.precision import Arithmetic
from horen.model.partial.tail import Sample
from support.editors import checksums, hooks_on, same_weights, written_by_hand
from support.tails import BATCHES, MIXED, SHORT, UNUSUAL, check, full, site_of, tail_of, unusual_model, values_for
from support.tiny_models import FAMILIES, HIDDEN, VOCABULARY, tiny_model


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_agrees_with_the_whole_model(family: str, batch: str):
    model, samples = tiny_model(family), BATCHES[batch]
    with torch.no_grad():
        check(model, tail_of(model, samples), samples, values_for(samples))


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "opt", "mixtral"])
def test_values_may_be_written_at_every_position(family: str):
    """Of a prompt's first token only the rest of it is fed after, and what is read there is not asked for."""
    model = tiny_model(family)
    rows, leads = [(5, 6, 7, 8, 9, 10), (12, 13, 14)], (3, 0)
    samples = [Sample(row[:1], row[1:], lead) for row, lead in zip(rows, leads, strict=True)]
    values = torch.randn(2, 5, HIDDEN, generator=torch.Generator().manual_seed(4))
    site = site_of(model)
    with torch.no_grad():
        found, real = tail_of(model, samples).log_probabilities(values)
        for number, (row, lead) in enumerate(zip(rows, leads, strict=True)):
            written = {(0, place): values[number, place] for place in range(len(row) - 1)}
            with written_by_hand(site.module, written, (1, len(row) - 1)):
                logits = model(input_ids=torch.tensor([row[:-1]]), use_cache=False).logits[0].log_softmax(-1)
            wanted = logits.gather(1, torch.tensor(row[1:])[:, None])[lead:, 0]
            torch.testing.assert_close(found[number][real[number]], wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("together", [1, 12, 30])
@pytest.mark.parametrize("family", FAMILIES)
def test_however_many_prompts_are_run_together(family: str, together: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.model.partial.prefix._TOKENS_TOGETHER", together)
    model = tiny_model(family)
    with torch.no_grad():
        for samples in BATCHES.values():
            check(model, tail_of(model, samples), samples, values_for(samples))


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("kind", ["vector", "state"])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_every_depth(family: str, kind: str, layer: int):
    model = tiny_model(family)
    with torch.no_grad():
        check(model, tail_of(model, MIXED, layer, kind=kind), MIXED, values_for(MIXED), layer, kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_state_takes_the_place_of_and_the_unit_of_its_steps(family: str):
    """The rows are left as they are by a state that is what the layer gives, whatever its largest coordinate is."""
    model = tiny_model(family)
    vectors, states = (tail_of(model, MIXED, kind=kind) for kind in ("vector", "state"))
    with torch.no_grad():
        unchanged, _ = vectors.log_probabilities(torch.zeros(len(MIXED), HIDDEN))
        found, _ = states.log_probabilities(states.outputs)
    torch.testing.assert_close(found, unchanged, atol=2e-5, rtol=1e-5)
    assert not torch.equal(states.outputs, vectors.outputs)
    assert torch.equal(states.scale, states.outputs.abs().median(-1).values)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "qwen3-moe"])
def test_with_eager_attention(family: str):
    model = tiny_model(family, attn_implementation="eager")
    with torch.no_grad():
        check(model, tail_of(model, MIXED), MIXED, values_for(MIXED))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("family", UNUSUAL)
def test_unusual_scores_and_logits(family: str, batch: str):
    model, samples = unusual_model(family), BATCHES[batch]
    with torch.no_grad():
        check(model, tail_of(model, samples), samples, values_for(samples))
    values = values_for(samples).requires_grad_()
    found = tail_of(model, samples).log_probabilities(values)[0].sum()
    expected = sum(full(model, s, v).sum() for s, v in zip(samples, values, strict=True))
    ours, theirs = (torch.autograd.grad(x, values)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-3)


def test_a_zero_value_gives_the_untouched_model():
    model = tiny_model()
    with torch.no_grad():
        check(model, tail_of(model, MIXED), MIXED, torch.zeros(len(MIXED), HIDDEN))


@pytest.mark.parametrize("family", ["llama", "opt", "mixtral"])
def test_low_rank_values(family: str):
    model = tiny_model(family)
    values = values_for(MIXED, 2 * 3 * HIDDEN, scale=0.3)
    with torch.no_grad():
        check(model, tail_of(model, MIXED), MIXED, values)


@pytest.mark.parametrize("family", FAMILIES)
def test_some_rows_go_on(family: str):
    model = tiny_model(family)
    tail = tail_of(model, MIXED)
    values = values_for(MIXED)
    with torch.no_grad():
        before, real = tail.log_probabilities(values)
        kept = torch.tensor([3, 0])
        part = tail.keep(kept)
        found, found_real = part.log_probabilities(values[kept])
        assert len(part) == 2
        width = found.shape[1]
        assert width == max(len(MIXED[row].target) for row in kept)  # columns that the others needed are gone
        assert torch.equal(found_real, real[kept, :width])
        torch.testing.assert_close(found, before[kept, :width], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(part.scale, tail.scale[kept])
        again = part.keep(torch.tensor([1]))
        torch.testing.assert_close(again.log_probabilities(values[:1])[0], before[:1, :2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tail.log_probabilities(values)[0], before)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_whole_model(family: str):
    model = tiny_model(family)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    values = values_for(MIXED).requires_grad_()
    found, _ = tail_of(model, MIXED).log_probabilities(values)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    (expected,) = torch.autograd.grad(sum(full(model, s, v).sum() for s, v in zip(MIXED, values, strict=True)), values)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)


def test_gradient_by_finite_differences():
    model = tiny_model().double()
    samples = SHORT[:1]
    tail = tail_of(model, samples)
    values = values_for(samples).double().requires_grad_()
    found, _ = tail.log_probabilities(values)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-2
    with torch.no_grad():
        up, _ = tail.log_probabilities(values + step * direction)
        down, _ = tail.log_probabilities(values - step * direction)
    slope = float((up.sum() - down.sum()) / (2 * step))
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-2, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_on_the_model(family: str):
    model = tiny_model(family)
    before = checksums(model)
    values = values_for(MIXED).requires_grad_()
    found, _ = tail_of(model, MIXED).log_probabilities(values)
    torch.autograd.grad(found.sum(), values)
    assert hooks_on(model) == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert same_weights(model, before)


def test_gradients_that_lie_on_the_weights_stay():
    model = tiny_model()
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    before = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    values = values_for(SHORT).requires_grad_()
    found, _ = tail_of(model, SHORT).log_probabilities(values)
    torch.autograd.grad(found.sum(), values)
    assert before
    assert all(torch.equal(model.get_parameter(name).grad, gradient) for name, gradient in before.items())


@pytest.mark.parametrize("family", ["llama", "opt", "mixtral"])
@pytest.mark.parametrize("when", ["preparing", "computing"])
def test_an_interruption_leaves_the_model_whole(family: str, when: str):
    model = tiny_model(family)
    expected = model(input_ids=torch.tensor([[1, 2, 3]])).logits
    tail = tail_of(model, MIXED)
    layer = Layout.of(model).layers[2 if when == "preparing" else 3]
    module = next(child for child in layer.children() if any(True for _ in child.parameters()))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = module.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        tail_of(model, MIXED) if when == "preparing" else tail.log_probabilities(values_for(MIXED))
    handle.remove()
    assert hooks_on(model) == 0
    assert torch.equal(model(input_ids=torch.tensor([[1, 2, 3]])).logits, expected)
    with torch.no_grad():
        check(model, tail, MIXED, values_for(MIXED))


def test_a_forward_that_was_replaced_before_is_put_back():
    model = tiny_model()
    mlp = model.model.layers[2].mlp
    own = mlp.forward
    mlp.forward = lambda hidden: own(hidden) * 1.0
    replaced = mlp.__dict__["forward"]
    with torch.no_grad():
        check(model, tail_of(model, SHORT), SHORT, values_for(SHORT))
    assert mlp.__dict__["forward"] is replaced


@pytest.mark.parametrize("family", FAMILIES)
def test_scale_and_size_of_the_site(family: str):
    model = tiny_model(family)
    tail = tail_of(model, MIXED)
    site = site_of(model)
    assert tail.value_size == HIDDEN
    for row, sample in enumerate(MIXED):
        seen: list[Tensor] = []
        handle = site.module.register_forward_hook(
            lambda _module, _inputs, output, seen=seen: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        with torch.no_grad():
            model(input_ids=torch.tensor([sample.prompt]))
        handle.remove()
        last = seen[0].reshape(-1, HIDDEN)[-1]
        torch.testing.assert_close(tail.scale[row], last.square().mean().sqrt(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_leads_a_target_is_read_and_not_asked_for(family: str):
    model = tiny_model(family)
    whole = [Sample((5, 6), (7, 8, 9, 10)), Sample((11, 12, 13), (14, 15)), Sample((16,), (17, 18, 19))]
    asked = [Sample(sample.prompt, sample.target, lead) for sample, lead in zip(whole, (2, 0, 1), strict=True)]
    values = values_for(whole)
    with torch.no_grad():
        plain, _ = tail_of(model, whole).log_probabilities(values)
        tail = tail_of(model, asked)
        found, real = tail.log_probabilities(values)
        assert real.tolist() == [[False, False, True, True], [True, True, False, False], [False, True, True, False]]
        torch.testing.assert_close(found, plain * real, atol=2e-5, rtol=1e-5)
        kept, real = tail.keep(torch.tensor([2, 1])).log_probabilities(values[[2, 1]])
        assert real.tolist() == [[False, True, True], [True, True, False]]
        torch.testing.assert_close(kept, found[[2, 1], :3], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_distributions_are_those_of_the_target_tokens(family: str):
    model = tiny_model(family)
    samples = [Sample((5, 6), (7, 8, 0), 2), Sample((11, 12, 13), (0,)), Sample((16,), (17, 18), 0)]
    values = values_for(samples)
    with torch.no_grad():
        tail = tail_of(model, samples)
        all_rows = torch.ones(3, dtype=torch.bool)
        logs, real, found = tail.scored(values, all_rows)
        assert found.shape == (4, VOCABULARY)
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(4))
        tokens = torch.tensor([0, 0, 17, 18])
        torch.testing.assert_close(found.gather(1, tokens[:, None])[:, 0], logs[real], atol=2e-5, rtol=1e-5)
        assert torch.equal(tail.log_probabilities(values)[0], logs)
        torch.testing.assert_close(tail.scored(values, torch.tensor([False, True, False]))[2], found[1:2])
        torch.testing.assert_close(tail.keep(torch.tensor([1])).scored(values[1:2], all_rows[:1])[2], found[1:2])
        torch.testing.assert_close(
            tail.rough(tail.fast(Arithmetic.BFLOAT16)).scored(values, all_rows)[2], found, atol=0.5, rtol=0.1
        )
