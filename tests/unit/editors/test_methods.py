"""What holds for every method of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from method_support import (
    CAREFULLY,
    EDITS,
    GATED,
    ROUTING,
    answers,
    each_editing,
    each_family,
    each_method,
    each_method_of_each_family,
    each_routing,
    encoder,
    fed,
    forced_logits,
    needed,
    opened,
    prompt_logits,
    same,
    taught,
    texts,
)

from horen import Edit, EditError, ModelError
from horen.editors import METHODS, open_method
from support.editors import (
    EDITED,
    FACTS,
    OTHER,
    PROMPTS,
    REPHRASED,
    checksums,
    facts,
    hooks_on,
    ids_of,
    logits,
    same_weights,
)
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

each_taught = pytest.mark.parametrize("name", CAREFULLY)
each_correcting = pytest.mark.parametrize("name", ["horen", "cosine", "grace", "ft", "lora"])
each_trained = pytest.mark.parametrize("name", ["horen", "cosine", "grace", *GATED])
UNRELATED = (OTHER, "Hello", "The mother tongue of Toko Yasuda is")


# --- edits ---------------------------------------------------------------------------------------------------------


@each_family
@each_routing
def test_edits_take_effect_and_other_prompts_are_bit_identical(name: str, family: str):
    base = opened("none", family=family)
    method = opened(name, family=family)
    assert same(fed(method), fed(base))
    method.edit(EDITS)
    for edit in EDITS:
        before, after = prompt_logits(base, edit.prompt), prompt_logits(method, edit.prompt)
        assert before.shape != after.shape or not torch.equal(before[-1], after[-1])
    for prompt in UNRELATED:
        assert method.rows([prompt]) == [ids_of(prompt)]
        assert torch.equal(prompt_logits(method, prompt), prompt_logits(base, prompt))
    assert answers(method, UNRELATED) == answers(base, UNRELATED)


def test_the_untouched_model_stays_so():
    method, model = opened("none"), tiny_model()
    method.edit(EDITS)
    assert method.rows(PROMPTS) == [ids_of(prompt) for prompt in PROMPTS]
    assert all(torch.equal(prompt_logits(method, prompt), logits(model, ids_of(prompt))) for prompt in PROMPTS)
    assert method.routes(PROMPTS) is None
    assert method.stored_bytes() == 0


@each_taught
def test_edits_are_answered_and_end(name: str):
    method = taught(name)
    method.edit(facts())
    assert texts(method, list(FACTS)) == list(FACTS.values())


@each_correcting
def test_a_corrected_edit_has_its_new_answer(name: str):
    method = taught(name)
    method.edit([Edit(EDITED, "Oslo"), Edit("Who wrote Hamlet?", "blue")])
    method.edit([Edit(EDITED, "blue")])
    method.edit([Edit(EDITED, "Rome"), Edit("Who wrote Hamlet?", "blue")])
    assert texts(method, [EDITED, "Who wrote Hamlet?"]) == ["Rome", "blue"]


@pytest.mark.parametrize("name", GATED)
def test_a_corrected_edit_has_its_new_answer_whatever_becomes_of_others(name: str):
    method = taught(name)
    method.edit([Edit(EDITED, "Oslo"), Edit("Who wrote Hamlet?", "blue")])
    method.edit([Edit(EDITED, "Rome")])
    assert texts(method, [EDITED]) == ["Rome"]


@each_routing
def test_prompts_that_differ_in_white_space_are_one(name: str):
    method = opened(name)
    method.edit([Edit(EDITED, "Oslo")])
    spaced = f" {EDITED}\n"
    method.edit([Edit(spaced, "Rome")])
    routes = method.routes([EDITED, spaced])
    assert routes is not None
    assert {route.prompt for route in routes} == {spaced}
    assert routes[1].fired


@each_routing
def test_superseding_leaves_what_writing_the_last_target_alone_does(name: str):
    method, alone, both = opened(name), opened(name), opened(name)
    method.edit([Edit(EDITED, "Paris"), Edit(OTHER, "Rome")])
    method.edit([Edit(EDITED, "Oslo")])
    alone.edit([Edit(OTHER, "Rome"), Edit(EDITED, "Oslo")])
    both.edit([Edit(EDITED, "Paris"), Edit(OTHER, "Rome"), Edit(EDITED, "Oslo")])
    for prompt in PROMPTS:
        torch.testing.assert_close(prompt_logits(method, prompt), prompt_logits(alone, prompt), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(prompt_logits(both, prompt), prompt_logits(alone, prompt), atol=1e-4, rtol=1e-4)


@each_routing
def test_one_list_or_several(name: str):
    together, apart = opened(name), opened(name)
    together.edit(EDITS)
    for edit in EDITS:
        apart.edit([edit])
    apart.edit([])
    apart.edit(EDITS)  # nothing new
    assert together.stored_bytes() == apart.stored_bytes() or name in {"retrieval", "ike"}
    for prompt in PROMPTS:
        torch.testing.assert_close(prompt_logits(together, prompt), prompt_logits(apart, prompt), atol=1e-4, rtol=1e-4)


@each_routing
def test_rephrases_find_their_edit(name: str):
    method = opened(name)
    method.edit([Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])
    routes = method.routes([REPHRASED, EDITED])
    assert routes is not None
    assert [(route.prompt, route.fired) for route in routes] == [(EDITED, True)] * 2
    method.edit([Edit(EDITED, "Oslo")])  # the rephrase goes with the edit that it belonged to
    assert [route.fired for route in method.routes([REPHRASED, EDITED, OTHER]) or ()] == [False, True, True]


@each_editing
def test_a_list_that_contradicts_itself_changes_nothing(name: str):
    method = opened(name)
    method.edit(EDITS)
    before = fed(method)
    with pytest.raises(EditError, match="contradict"):
        method.edit([Edit(OTHER, "Rome"), Edit("Hello", "Oslo", (OTHER,))])
    assert same(fed(method), before)


# --- asking --------------------------------------------------------------------------------------------------------


@each_method_of_each_family
def test_a_batch_answers_as_its_rows_do_with_a_cache_and_without(name: str, family: str):
    method = opened(name, family=family)
    method.edit(EDITS)
    together = answers(method, PROMPTS)
    assert answers(method, PROMPTS, use_cache=False) == together
    assert [answers(method, [prompt])[0] for prompt in PROMPTS] == together


@each_method_of_each_family
def test_forced_answers_are_scored_as_generated_ones(name: str, family: str):
    """The boundary keeps an answer that is fed with its prompt out of what is routed."""
    method = opened(name, family=family)
    method.edit(EDITS)
    for prompt in PROMPTS:
        (answer,) = answers(method, [prompt])
        assert forced_logits(method, prompt, answer).argmax(-1)[: len(answer)].tolist() == answer


@each_routing
def test_routes(name: str):
    method = opened(name)
    empty = method.routes([EDITED])
    assert empty is not None
    assert [(route.prompt, route.fired) for route in empty] == [(None, False)]
    method.edit(EDITS)
    routes = method.routes([*(edit.prompt for edit in EDITS), OTHER])
    assert routes is not None
    assert [(route.prompt, route.fired) for route in routes[:2]] == [(edit.prompt, True) for edit in EDITS]
    assert not routes[2].fired
    assert routes[2].prompt in {edit.prompt for edit in EDITS}
    assert routes[2].score < min(route.score for route in routes[:2])
    assert routes[2].score > empty[0].score
    assert method.routes([]) == []


@each_editing
def test_disabled(name: str):
    method, base = opened(name), opened("none")
    method.edit(EDITS)
    edited = fed(method)
    with method.disabled():
        assert same(fed(method), fed(base))
        with method.disabled():
            pass
        assert same(fed(method), fed(base))
    assert same(fed(method), edited)
    assert not same(edited, fed(base))


@each_routing
def test_stored_bytes_grow_with_the_edits(name: str):
    method = opened(name)
    assert method.stored_bytes() == 0
    method.edit(EDITS[:1])
    one = method.stored_bytes()
    method.edit(EDITS[1:])
    assert 1.5 * one < method.stored_bytes() < 2.5 * one


@pytest.mark.parametrize("name", ["none", "grace", "retrieval", "ike", "unke"])
def test_a_prompt_of_no_token(name: str):
    method = opened(name)
    method.edit(EDITS)
    with pytest.raises(EditError, match="no token"):
        method.rows([""]) if name not in {"retrieval", "ike"} else method.rows(["Hello", ""])


# --- the model -----------------------------------------------------------------------------------------------------


@each_method_of_each_family
def test_closing_leaves_the_model_as_it_was(name: str, family: str, tmp_path: Path):
    model = tiny_model(family)
    hooks, weights = hooks_on(model), checksums(model)
    learnable = [parameter.requires_grad for parameter in model.parameters()]
    base = [logits(model, ids_of(prompt)) for prompt in PROMPTS]
    method = opened(name, model)
    method.edit(EDITS)
    answers(method, PROMPTS)
    method.routes(PROMPTS)
    method.save(tmp_path / "state")
    method.restore(tmp_path / "state")
    assert same_weights(model, weights) == (name in {"none", *ROUTING, *GATED})
    method.close()
    method.close()
    assert hooks_on(model) == hooks
    assert "_horen_adapter" not in model.__dict__
    assert same_weights(model, weights)
    assert [parameter.requires_grad for parameter in model.parameters()] == learnable
    assert all(parameter.grad is None for parameter in model.parameters())
    assert same([logits(model, ids_of(prompt)) for prompt in PROMPTS], base)
    opened(name, model).close()


@each_trained
def test_a_closed_method_does_not_answer(name: str):
    method = opened(name)
    method.edit(EDITS)
    method.close()
    actions: list[Callable[[], Any]] = [
        lambda: method.edit([Edit(OTHER, "Rome")]),
        lambda: method.boundary(3),
        lambda: method.routes([EDITED]),
        lambda: method.disabled().__enter__(),
    ]
    for action in actions:
        with pytest.raises(ModelError, match=r"again|make a new one"):
            action()


@each_trained
def test_a_model_is_wrapped_once(name: str):
    model = tiny_model()
    opened(name, model)
    for rival in ("horen", "cosine", "grace"):
        with pytest.raises(ModelError, match="wrapped"):
            opened(rival, model)


@each_method
def test_no_global_generator_is_touched(name: str):
    before = torch.random.get_rng_state()
    method = opened(name)
    method.edit(EDITS)
    method.routes(PROMPTS)
    method.rows(PROMPTS)
    assert torch.equal(torch.random.get_rng_state(), before)


@each_trained
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(name: str, dtype: torch.dtype):
    method = opened(name, tiny_model().to(dtype))
    base = answers(method, PROMPTS)
    method.edit(EDITS)
    found = answers(method, PROMPTS)
    assert found[0] != base[0]
    assert found[1] == base[1]
    routes = method.routes([edit.prompt for edit in EDITS])
    assert routes is not None
    assert all(route.fired for route in routes)


@each_method
def test_a_method_says_what_it_is(name: str):
    model = tiny_model()
    method = open_method(name, model, tiny_tokenizer(), encoder=encoder, settings=needed(name, model))
    assert method.name == name
    assert isinstance(method.tokenizer, type(tiny_tokenizer()))
    assert METHODS[name]
