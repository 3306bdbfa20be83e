"""WISE on tiny models, against the very same model with the side memory's weights in the layer's place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_support import EDITS, answers, fed, forced_logits, opened, prompt_logits, same
from torch import Tensor

from horen import ConfigError, Edit, ModelError
from horen.data import load_bank
from horen.editors.common.samples import plain_samples
from horen.editors.wise import Wise, WiseConfig
from horen.editors.wise import method as wise_method
from horen.editors.wise.memory import subspace
from horen.editors.wise.training import passages
from horen.edits import same_text
from horen.model.layout import Layout
from horen.model.past import past_argument, past_of
from horen.model.quiet import quiet
from support.editors import EDITED, GREEDY, OTHER, PROMPTS, ids_of, logits
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

each_family = pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
LAYER = 1


def wise(family: str = "llama", edits: Sequence[Edit] = EDITS, **settings: Any) -> Wise:
    method = opened("wise", family=family, **settings)
    assert isinstance(method, Wise)
    method.edit(edits)
    return method


def side(method: Wise) -> Any:
    gate = method._adapter.gate
    assert gate is not None
    return gate


def down(method: Wise) -> Any:
    module = Layout.of(method.model).down_projection(LAYER)
    assert module is not None
    return module


@contextmanager
def weights_of_memory(method: Wise, number: int = 0) -> Iterator[None]:
    """W′ in the place of W, and no hook at work."""
    weight, difference = down(method).weight, side(method).memories[number]
    before = weight.data
    weight.data = before + (
        difference if before.shape == difference.shape and not hasattr(down(method), "nf") else difference.T
    )
    try:
        with method.disabled():
            yield
    finally:
        weight.data = before


def shut(method: Wise, *, never: bool) -> None:
    """Route nothing, or everything."""
    method._adapter.install(replace(side(method), smallest=float("inf") if never else -1.0))


# --- answering -----------------------------------------------------------------------------------------------------


@each_family
def test_a_routed_prompt_is_answered_by_the_weights_of_the_side_memory(family: str):
    method = wise(family)
    for edit in EDITS:
        with weights_of_memory(method):
            wanted, said = prompt_logits(method, edit.prompt), answers(method, [edit.prompt])
            forced = forced_logits(method, edit.prompt, said[0])
        torch.testing.assert_close(prompt_logits(method, edit.prompt), wanted, atol=1e-4, rtol=1e-4)
        assert answers(method, [edit.prompt]) == said
        assert answers(method, [edit.prompt], use_cache=False) == said
        torch.testing.assert_close(forced_logits(method, edit.prompt, said[0]), forced, atol=1e-4, rtol=1e-4)


@each_family
def test_what_is_not_routed_is_bit_identical(family: str):
    method, base = wise(family), opened("none", family=family)
    prompts = [*PROMPTS, *load_bank().unrelated(16)]
    still = [p for p, route in zip(prompts, method.routes(prompts), strict=True) if not route.fired]
    assert len(still) >= 8
    for prompt in still:
        assert torch.equal(prompt_logits(method, prompt), prompt_logits(base, prompt))
    assert answers(method, still) == answers(base, still)
    shut(method, never=True)
    assert same(fed(method), fed(base))


@each_family
def test_the_score_is_the_length_of_what_the_side_memory_changes(family: str):
    method = wise(family)
    seen: list[Tensor] = []
    handle = down(method).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with method.disabled():
        logits(method.model, ids_of(OTHER))
    handle.remove()
    activation = seen[0].reshape(-1, seen[0].shape[-1]).mean(0, keepdim=True)
    with torch.no_grad():
        before = down(method)(activation)
        with weights_of_memory(method):
            change = down(method)(activation) - before
    assert method.routes([OTHER])[0].score == pytest.approx(float(change.norm()), rel=1e-3)


def test_the_threshold_is_the_smallest_score_of_the_edits():
    method = wise(threshold_share=1.0)
    scores = [route.score for route in method.routes([edit.prompt for edit in EDITS])]
    assert side(method).threshold == pytest.approx(min(scores), rel=1e-5)
    smallest = side(method).smallest
    method.edit([Edit("Hello", "Oslo")])
    assert side(method).smallest <= smallest
    scores = [route.score for route in method.routes([edit.prompt for edit in EDITS])]
    method._adapter.install(replace(side(method), smallest=max(scores) * 1.001))
    assert not any(route.fired for route in method.routes([edit.prompt for edit in EDITS]))
    method._adapter.install(replace(side(method), smallest=min(scores) * 0.999))
    assert all(route.fired for route in method.routes([edit.prompt for edit in EDITS]))


def test_a_route_is_kept_with_the_cache():
    """By callers that decode by hand, with rows that go different ways, and with rows repeated for several answers."""
    method, base = wise(), opened("none")
    for prompt in (EDITED, load_bank().unrelated(1)[0]):
        ids = torch.tensor([[*ids_of(prompt), *ids_of(" Rome and Oslo")]])
        start = len(ids_of(prompt))
        fired = method.routes([prompt])[0].fired
        assert fired == (prompt == EDITED)
        with torch.no_grad(), method.boundary(start):
            whole = method.model(input_ids=ids).logits[0]
        with torch.no_grad():
            step = method.model(input_ids=ids[:, :start], use_cache=True)
            past_of(step).batch_repeat_interleave(2)
            found = [step.logits[0, -1]]
            for place in range(start, ids.shape[1]):
                past = {past_argument(method.model): past_of(step)}
                step = method.model(input_ids=ids[:, place : place + 1].repeat(2, 1), **past)
                assert torch.equal(step.logits[0], step.logits[1])
                found.append(step.logits[0, -1])
        torch.testing.assert_close(torch.stack(found), whole[start - 1 :], atol=1e-4, rtol=1e-4)
        untouched = logits(base.model, ids[0].tolist())[start:]
        assert torch.allclose(whole[start:], untouched, atol=1e-3) is not fired


def test_beams():
    method, options = wise(), {**GREEDY, "num_beams": 3, "max_new_tokens": 4}
    inputs = {"input_ids": torch.tensor([ids_of(EDITED)])}
    with weights_of_memory(method):
        wanted = method.model.generate(**inputs, **options)
    assert torch.equal(method.model.generate(**inputs, **options), wanted)


def test_a_prompt_in_chunks_is_routed_as_a_whole():
    method, base = wise(), opened("none")
    for prompt in (EDITED, load_bank().unrelated(1)[0]):
        ids = torch.tensor([ids_of(prompt)])
        found = []
        for model, around in ((method.model, method.boundary(ids.shape[1])), (base.model, base.boundary(ids.shape[1]))):
            with around, torch.no_grad():
                first = model(input_ids=ids[:, :2], use_cache=True)
                found.append(model(input_ids=ids[:, 2:], **{past_argument(model): past_of(first)}).logits)
        assert torch.equal(*found) is not method.routes([prompt])[0].fired


# --- writing -------------------------------------------------------------------------------------------------------


def test_a_shard_changes_its_subspace_alone():
    method = wise(shard_edits=1, edits=EDITS)
    assert [int(shard.count_nonzero()) > 0 for shard in side(method).shards] == [True, True]
    for number, shard in enumerate(side(method).shards, start=1):
        assert not shard[~subspace(shard.shape, method.config.mask_ratio, 0, number)].any()


@pytest.mark.parametrize("retrieve", [False, True])
def test_shards_fill_up_and_are_merged(retrieve: bool):
    edits = [*EDITS, Edit("Hello", "Oslo"), Edit(OTHER, "blue"), Edit("What colour is Daniel?", "Paris")]
    together, apart = (
        wise(edits=edits, shard_edits=1, retrieve=retrieve),
        wise(edits=[], retrieve=retrieve, shard_edits=1),
    )
    for edit in edits:
        apart.edit([edit])
    for method in (together, apart):
        assert (len(side(method).finished), len(side(method).shards)) == (2 if retrieve else 1, 1)
        assert len(side(method).memories) == (3 if retrieve else 1)
    assert same(fed(together), fed(apart))


def test_the_memory_that_answers_best_is_retrieved():
    method = wise(shard_edits=1, shards=1, retrieve=True)
    assert len(side(method).memories) == 2
    features = method._features(method.rows([EDITED]))
    number = int(side(method).scores(features).argmax())
    shut(method, never=False)
    with weights_of_memory(method, number):
        wanted = prompt_logits(method, EDITED)
    torch.testing.assert_close(prompt_logits(method, EDITED), wanted, atol=1e-4, rtol=1e-4)


def test_an_interruption_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch):
    method = wise()
    before, size = fed(method), method.stored_bytes()
    train, calls = wise_method.train, iter((True, False))

    def interrupted(*arguments: Any) -> Tensor:
        if next(calls):
            return train(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(wise_method, "train", interrupted)
    method.config = method.config.replace(batch_edits=1)
    more = [Edit("Hello", "Oslo"), Edit(OTHER, "blue")]
    with pytest.raises(KeyboardInterrupt):
        method.edit(more)
    assert same(fed(method), before)
    assert method.stored_bytes() == size
    monkeypatch.setattr(wise_method, "train", train)
    method.edit(more)
    assert not same(fed(method), before)


def test_what_is_stored_is_not_trained_again():
    method = wise()
    gate = side(method)
    method.edit(EDITS)
    assert side(method) is gate
    assert method.stored_bytes() == 2 * gate.memories[0].nbytes + 16


def test_irrelevant_prompts_that_are_edited_are_left_out():
    method = wise(edits=[])
    (text,) = load_bank().unrelated(1)
    with quiet(method._adapter):
        assert len(method._background(8, [])) == 8
        assert len(method._background(8, [Edit(f"{text} ", "Rome"), Edit("Hello", "Rome", (OTHER,))])) == 7
    assert same_text(text) in {same_text(t) for t in load_bank().unrelated(8)}


@each_family
def test_what_is_trained_is_what_answers(family: str):
    """Without a change the tail above the layer gives the model's own probabilities of the target."""
    method = wise(family, edits=[])
    samples = plain_samples(method.contexts, EDITS, end=method.config.train_end)
    with quiet(method._adapter), torch.no_grad():
        (part,) = passages(method._wise, samples, method.config)
        order = sorted(range(len(samples)), key=lambda i: len(samples[i].target))
        logs, real = part.tail.log_probabilities(
            torch.zeros(*part.activations.shape[:2], method._wise.layout.hidden_size)
        )
        for row, number in enumerate(order):
            sample = samples[number]
            found = logits(method.model, [*sample.prompt, *sample.target])[len(sample.prompt) - 1 : -1].log_softmax(-1)
            wanted = found.gather(1, torch.tensor(sample.target)[:, None])[:, 0]
            torch.testing.assert_close(logs[row][real[row]], wanted, atol=2e-5, rtol=1e-4)


def test_a_rate_that_is_too_large_leaves_a_finite_memory():
    method = wise(optimizer="sgd", unit="absolute", learning_rate=1e30, beta=20.0)
    assert all(memory.isfinite().all() for memory in side(method).memories)
    assert all(route.score == route.score for route in method.routes(PROMPTS))


# --- settings ------------------------------------------------------------------------------------------------------


def test_a_mixture_of_experts_has_no_down_projection_to_copy():
    with pytest.raises(ModelError, match="grace"):
        Wise(tiny_model("mixtral"), tiny_tokenizer())


def test_presets():
    paper = WiseConfig.from_preset("paper")
    assert (paper.alpha, paper.beta, paper.gamma, paper.learning_rate, paper.batch_edits) == (5.0, 20.0, 10.0, 1.0, 1)
    assert (paper.mask_ratio, paper.shards, paper.optimizer) == (0.2, 2, "sgd")
    method = opened(
        "wise", layer=0.3, **{k: v for k, v in paper.to_dict().items() if k not in {"layer", "max_steps", "preset"}}
    )
    method.edit(EDITS[:1])
    with pytest.raises(ConfigError, match="mask_ratio=0"):
        WiseConfig(mask_ratio=0)
