"""GRACE on tiny models: where a value goes, when it fires, and how it is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_support import NEW, QUICKLY, answers, each_family, opened, prompt_logits
from torch import Tensor

from horen import ConfigError, Edit, EditError
from horen.editors.grace import Grace, GraceConfig, training
from horen.model.layout import Layout, first_tensor, with_first_tensor
from horen.model.partial.precision import Arithmetic
from horen.model.partial.tail import Sample, Tail
from horen.model.quiet import quiet
from support.arithmetics import fastest_in
from support.editors import EDITED, FACTS, OTHER, PROMPTS, chat_ids, ids_of, logits, padded
from support.tiny_models import HIDDEN, taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def grace(family: str = "llama", edits: list[Edit] | None = None, **settings: Any) -> Grace:
    method = opened("grace", family=family, **settings)
    assert isinstance(method, Grace)
    method.edit([Edit(EDITED, "Rome")] if edits is None else edits)
    return method


def site(method: Grace) -> Any:
    return Layout.of(method.model).mlp(1)[1]


def value(method: Grace, number: int = 0) -> Tensor:
    return method._memory.codebook.values[number]


def replaced(method: Grace, ids: list[int], position: int, value: Tensor) -> Tensor:
    """Logits of one row of the untouched model whose layer gives a value at one position."""

    def put(_module: Any, _inputs: Any, output: Any) -> Any:
        states = first_tensor(output).reshape(1, len(ids), -1).clone()
        states[0, position] = value
        return with_first_tensor(output, states.reshape(first_tensor(output).shape))

    with method.disabled():
        handle = site(method).register_forward_hook(put)
        try:
            return logits(method.model, ids)
        finally:
            handle.remove()


def output(method: Grace, ids: list[int]) -> Tensor:
    """What the untouched model's layer gives at the last of a row's tokens."""
    seen: list[Tensor] = []
    handle = site(method).register_forward_hook(lambda _module, _inputs, given: seen.append(first_tensor(given)))
    with method.disabled():
        logits(method.model, ids)
    handle.remove()
    return seen[0].reshape(len(ids), -1)[-1]


def moved(method: Grace, distance: float) -> None:
    """Move every key by a distance, so that the prompts it was made of are that far from it."""
    keys = method._memory.codebook.keys
    keys += distance / keys.shape[1] ** 0.5


# --- where and when ------------------------------------------------------------------------------------------------


@each_family
def test_the_value_replaces_the_layers_output_at_the_prompts_last_token(family: str):
    method, ids = grace(family), ids_of(EDITED)
    expected = replaced(method, ids, len(ids) - 1, value(method))
    assert torch.equal(prompt_logits(method, EDITED), expected)
    with method.disabled():
        base = logits(method.model, ids)
    torch.testing.assert_close(expected[:-1], base[:-1], atol=1e-5, rtol=1e-5)  # experts see other groups of rows
    assert not torch.allclose(expected[-1], base[-1], atol=0.1)


@each_family
def test_generation_is_the_model_with_the_layer_replaced(family: str):
    method, ids = grace(family), ids_of(EDITED)
    grown = list(ids)
    for _ in range(NEW):
        grown.append(int(replaced(method, grown, len(ids) - 1, value(method))[-1].argmax()))
    assert answers(method, [EDITED]) == [grown[len(ids) :]]


def test_the_key_is_the_layers_input_at_the_prompts_last_token():
    method, ids = grace(), ids_of(EDITED)
    seen: list[Tensor] = []
    down = Layout.of(method.model).down_projection(1)
    assert down is not None
    handle = down.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][0, -1]))
    with method.disabled():
        logits(method.model, ids)
    handle.remove()
    torch.testing.assert_close(method._memory.codebook.keys[0], seen[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("distance", "fires"), [(0.0, True), (0.99, True), (1.01, False), (5.0, False)])
def test_a_query_fires_inside_the_ball_alone(family: str, distance: float, fires: bool):
    method = grace(family)
    with method.disabled():
        base = prompt_logits(method, EDITED)
    moved(method, distance)
    assert torch.equal(prompt_logits(method, EDITED), base) is not fires
    (route,) = method.routes([EDITED])
    assert (route.prompt, route.fired) == (EDITED, fires)
    assert route.score == pytest.approx(1 - distance, abs=1e-3)


def test_the_radius_of_the_nearest_entry_decides():
    method = grace(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], eps_init=1e-3)
    assert [route.fired for route in method.routes(PROMPTS)] == [True, True, False, False, False]
    wide = grace(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], eps_init=4.0)
    fired = [route.fired for route in wide.routes(PROMPTS)]
    keys = wide._keys(wide.rows(PROMPTS))
    nearest = torch.cdist(keys, wide._memory.codebook.keys).min(-1)
    balls = [wide._memory.ball(int(i)).radius for i in nearest.indices]
    assert fired == [float(d) <= r for d, r in zip(nearest.values, balls, strict=True)]


def test_prompts_whose_balls_touch_expand_or_split():
    """The same rule as in the plane, on the distances of a real model's activations."""
    probe = grace(edits=[])
    keys = probe._keys(probe.rows([EDITED, OTHER]))
    apart = float((keys[0] - keys[1]).norm())
    expanded = grace(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Rome")], eps_init=0.6 * apart)
    (ball,) = expanded._memory.balls
    assert ball is not None
    assert ball.radius == pytest.approx(apart, rel=0.011)
    assert [(r.prompt, r.fired) for r in expanded.routes([EDITED, OTHER])] == [(EDITED, True), (OTHER, True)]
    assert expanded.stored_bytes() == 4 * (keys.shape[1] + HIDDEN) + 8
    split = grace(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], eps_init=0.6 * apart)
    assert [ball.radius for ball in split._memory.balls if ball] == [pytest.approx(apart / 2, rel=1e-4)] * 2
    alone = grace(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Rome")], eps_init=0.4 * apart)
    assert [ball.radius for ball in alone._memory.balls if ball] == [0.4 * apart] * 2


def test_correcting_an_edit_that_others_had_joined():
    probe = grace(edits=[])
    keys = probe._keys(probe.rows([EDITED, OTHER]))
    method = grace(edits=[], eps_init=float((keys[0] - keys[1]).norm()))
    method.edit([Edit(EDITED, "Rome"), Edit(OTHER, "Rome")])
    old = value(method).clone()
    method.edit([Edit(EDITED, "Oslo")])
    balls = {ball.target: number for number, ball in enumerate(method._memory.balls) if ball}
    assert sorted(balls) == ["Oslo", "Rome"]
    assert torch.equal(value(method, balls["Rome"]), old)
    assert not torch.equal(value(method, balls["Oslo"]), old)
    assert [(r.prompt, r.fired) for r in method.routes([EDITED, OTHER])] == [(EDITED, True), (OTHER, True)]


def test_a_chat_is_routed_at_its_last_token():
    method = grace(edits=[])
    ids = chat_ids(EDITED)
    key = method._adapter.features([ids], [[(0, len(ids))]])
    method.edit([Edit(EDITED, "Rome")])
    method._memory.codebook.keys[0] = key[0]
    torch.testing.assert_close(
        logits(method.model, ids), replaced(method, ids, len(ids) - 1, value(method)), atol=0, rtol=0
    )


@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_either_padding(left: bool):
    method = grace()
    rows = method.rows(PROMPTS)
    inputs = padded(rows, left=left)
    with torch.no_grad():
        found = method.model(**inputs).logits
    for row, states, mask in zip(rows, found, inputs["attention_mask"], strict=True):
        torch.testing.assert_close(states[mask.bool()], logits(method.model, row), atol=1e-4, rtol=1e-4)


def test_a_prompt_in_chunks():
    method = grace(edits=[Edit(f"{OTHER} {OTHER} {EDITED}", "Paris")])
    prompt = f"{OTHER} {OTHER} {EDITED}"
    found = answers(method, [prompt])
    assert answers(method, [prompt], prefill_chunk_size=5) == found
    with method.disabled():
        assert answers(method, [prompt]) != found


# --- training ------------------------------------------------------------------------------------------------------

SAMPLES = [Sample((5, 6, 7, 8), (9, 10)), Sample((17,), (18, 19, 20)), Sample((5, 11), (12,))]


@pytest.mark.parametrize("rough", [False, True])
@each_family
def test_the_objective_is_that_of_the_model_with_the_layer_replaced(family: str, rough: bool):
    method = grace(family, [])
    values = torch.randn(len(SAMPLES), HIDDEN, generator=torch.Generator().manual_seed(0))
    with quiet(method._adapter), torch.no_grad():
        objective = Tail(method.model, method._adapter.layout, method._adapter.write, SAMPLES)
        objective = objective.rough(objective.fast(Arithmetic.BFLOAT16)) if rough else objective
        found, real = objective.log_probabilities(values)
        kept, _ = objective.keep(torch.tensor([2, 0])).log_probabilities(values[[2, 0]])
    assert len(objective) == len(SAMPLES)
    tolerance: dict[str, float] = {"atol": 0.5, "rtol": 0.2} if rough else {"atol": 1e-4, "rtol": 1e-4}
    for row, sample in enumerate(SAMPLES):
        ids = [*sample.prompt, *sample.target]
        expected = replaced(method, ids, len(sample.prompt) - 1, values[row]).log_softmax(-1)
        wanted = expected[len(sample.prompt) - 1 : -1].gather(1, torch.tensor(sample.target)[:, None])[:, 0]
        torch.testing.assert_close(found[row][real[row]], wanted, **tolerance)
    assert kept.shape[1] == 2  # the longest target is gone, and its column with it
    torch.testing.assert_close(kept, found[[2, 0], :2], atol=1e-2 if rough else 1e-5, rtol=1e-2)


def test_steps_lower_the_loss_from_where_a_value_starts():
    ids, target = ids_of(EDITED), ids_of(" Rome<|im_end|>")
    losses = {}
    for start in ("uniform", "output"):
        for steps in (1, 60):
            method = grace(max_steps=steps, start=start, learning_rate=0.05, learning_rate_unit="site")
            found = replaced(method, [*ids, *target], len(ids) - 1, value(method)).log_softmax(-1)
            losses[start, steps] = -float(found[len(ids) - 1 : -1].gather(1, torch.tensor(target)[:, None]).mean())
        assert losses[start, 60] < 0.8 * losses[start, 1]


def test_a_warm_start_is_the_layers_output_and_a_cold_one_is_seeded():
    tiny = {"learning_rate": 1e-9}
    warm = grace(start="output", **tiny)
    torch.testing.assert_close(value(warm), output(warm, ids_of(EDITED)), atol=1e-5, rtol=1e-5)
    cold, again = grace(**tiny), grace(edits=[Edit(OTHER, "Paris"), Edit(EDITED, "Rome")], **tiny)
    assert 0 <= float(value(cold).min()) < float(value(cold).max()) <= 1.001
    torch.testing.assert_close(value(cold), value(again, 1), atol=1e-5, rtol=1e-5)
    settings = GraceConfig(**(dict(QUICKLY["grace"]) | tiny))
    other = Grace(tiny_model(), tiny_tokenizer(), settings, seed=1)
    other.edit([Edit(EDITED, "Rome")])
    assert not torch.allclose(value(other), value(cold), atol=0.1)


def test_the_end_is_trained_unless_it_is_not_wanted():
    method = grace(edits=[])
    (arrival,) = method._arrivals(Edit(EDITED, "Rome"))
    assert arrival.lesson is not None
    assert arrival.lesson.sample.target[-1] == tiny_tokenizer().eos_token_id
    (arrival,) = grace(edits=[], train_end=False)._arrivals(Edit(EDITED, "Rome"))
    assert arrival.lesson is not None
    assert arrival.lesson.sample.target[-1] != tiny_tokenizer().eos_token_id


def test_batches_are_of_like_length_and_no_larger_than_allowed(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    real = training.Tail

    def tail(model: Any, layout: Any, place: Any, samples: list[Sample], prefixes: Any) -> Tail:
        sizes.append(len(samples) * max(len(sample.target) for sample in samples))
        return real(model, layout, place, samples, prefixes)

    edits = [Edit(prompt, "Rome " * (1 + i % 3)) for i, prompt in enumerate([*PROMPTS, *FACTS])]
    whole = grace(edits=edits, eps_init=0.01)
    monkeypatch.setattr(training, "Tail", tail)
    small = grace(edits=edits, eps_init=0.01, batch_tokens=10)
    assert len(sizes) > 3
    assert max(sizes) <= 10
    torch.testing.assert_close(small._memory.codebook.values, whole._memory.codebook.values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("machine", ["model", "bfloat16"])
def test_every_way_of_optimising(machine: str, monkeypatch: pytest.MonkeyPatch):
    fastest_in(machine, monkeypatch)
    method = Grace(taught_model(), tiny_tokenizer(), GraceConfig(layer=1, precision="auto"))
    method.edit([Edit(EDITED, "Oslo")])
    ids = ids_of(EDITED)
    assert int(logits(method.model, ids)[-1].argmax()) == ids_of(" Oslo")[0]


@pytest.mark.parametrize("error", [RuntimeError("no room"), KeyboardInterrupt()])
def test_a_failed_list_changes_nothing(error: BaseException, monkeypatch: pytest.MonkeyPatch):
    method = grace(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])
    before = [prompt_logits(method, prompt) for prompt in PROMPTS]
    balls = list(method._memory.balls)

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("horen.editors.grace.method.train", fail)
        with pytest.raises(type(error)):
            method.edit([Edit(EDITED, "Oslo"), Edit("Hello", "blue")])
    assert method._memory.balls == balls
    for prompt, expected in zip(PROMPTS, before, strict=True):
        assert torch.equal(prompt_logits(method, prompt), expected)
    method.edit([Edit(EDITED, "Oslo")])
    assert not torch.equal(prompt_logits(method, EDITED), before[0])


def test_an_edit_that_cannot_be_encoded_changes_nothing():
    method = grace()
    long = Edit("Hello " * 5000, "Rome")
    with pytest.raises(EditError, match="holds"):
        method.edit([Edit(OTHER, "Paris"), long])
    assert len(method._memory.balls) == 1


# --- settings ------------------------------------------------------------------------------------------------------


def test_presets():
    default, paper = GraceConfig(), GraceConfig.from_preset("paper")
    assert (default.preset, default.train_end, default.max_steps, default.eps_init) == ("default", True, 100, 1.0)
    assert (paper.preset, paper.train_end, paper.stop_probability) == ("paper", False, 1.0)
    assert paper.sites(3).max_steps == 100
    assert GraceConfig.from_preset("paper", max_steps=7).max_steps == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": -1}, "layer=-1 is not valid"),
        ({"eps_init": -0.1}, "eps_init=-0.1 is not valid: expected at least 0"),
        ({"max_steps": 0}, "max_steps=0 is not valid"),
        ({"learning_rate": 0}, "learning_rate=0 is not valid: expected more than 0"),
        ({"start": "cold"}, "expected one of uniform, output"),
        ({"train_end": 1}, "expected true or false"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        GraceConfig.from_preset("default", **settings)


def test_a_layer_that_the_model_does_not_have():
    with pytest.raises(ConfigError, match=r"^layer=9 names no layer of this model, which has 4"):
        grace(layer=9)


@pytest.mark.parametrize("layer", [0, 3, 0.83])
def test_any_layer(layer: float):
    method = grace(layer=layer)
    with method.disabled():
        base = prompt_logits(method, EDITED)
    assert not torch.equal(prompt_logits(method, EDITED)[-1], base[-1])
