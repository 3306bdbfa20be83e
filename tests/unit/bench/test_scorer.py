"""The scorer against transformers' own generate and a forward call by hand."""

from __future__ import annotations

import pytest
import torch
from bench_support import SETTINGS

from horen import Edit
from horen.bench import scorer
from horen.bench.metrics.tokens import kl_divergence
from horen.bench.reading import Reading
from horen.editors import open_method
from horen.editors.interface import Method
from support.tiny_models import FAMILIES, taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

PROMPTS = ["The capital of France is", "Who wrote Danielle Darrieux?", "Hello", "Seven green boats went out to sea and"]


@pytest.fixture
def method() -> Method:
    return open_method("none", taught_model(), tiny_tokenizer())


def test_answers_are_those_of_generate_one_by_one(method: Method):
    found, _ = scorer.answers(method, PROMPTS, budget=6, batch=3)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([method.tokenizer(prompt)["input_ids"]])
        new = method.model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :].tolist()
        assert list(answer.tokens) == new[: len(answer.tokens)]
        assert answer.cut == (len(answer.tokens) == 6)
        assert answer.cut or len(new) > len(answer.tokens)
        assert answer.text == method.tokenizer.decode(answer.tokens, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_forced_scores_by_hand(family: str):
    method = open_method("none", tiny_model(family), tiny_tokenizer())
    targets = [scorer.target_ids(method, text) for text in ("Rome", "banana boats", "Oslo", "Paris and Rome")]
    found = scorer.forced_rows(method, method.rows(PROMPTS), targets, batch=3)
    asked = scorer.answers(
        method, PROMPTS, budget=2, batch=3, targets=dict(zip(PROMPTS[1:], targets[1:], strict=True))
    )[1]
    assert set(asked) == set(PROMPTS[1:])
    for prompt, target, one in zip(PROMPTS, targets, found, strict=True):
        if prompt in asked:
            assert asked[prompt].greedy == one.greedy
            assert asked[prompt].log_likelihood == pytest.approx(one.log_likelihood, abs=1e-4)
        ids = list(method.tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            log_p = method.model(input_ids=torch.tensor([ids + target])).logits[0].log_softmax(-1)
        steps = range(len(ids) - 1, len(ids) - 1 + len(target))
        by_hand = sum(float(log_p[at, token]) for at, token in zip(steps, target, strict=True))
        assert one.log_likelihood == pytest.approx(by_hand, abs=1e-4)
        assert one.greedy == tuple(bool(log_p[at].argmax() == t) for at, t in zip(steps, target, strict=True))


def test_an_edit_is_seen_by_every_way_of_scoring():
    method = open_method("horen", taught_model(), tiny_tokenizer(), settings=SETTINGS)
    target = scorer.target_ids(method, "Mira Sand")
    before = scorer.forced_rows(method, method.rows(PROMPTS[:1]), [target])[0]
    method.edit([Edit(PROMPTS[0], "Mira Sand")])
    after = scorer.forced_rows(method, method.rows(PROMPTS[:1]), [target])[0]
    assert after.log_likelihood > before.log_likelihood
    assert all(after.greedy)
    assert scorer.answers(method, PROMPTS[:1], budget=8)[0][0].text == "Mira Sand"
    moved = scorer.moved(method, PROMPTS, kl_divergence, budget=8)
    assert moved[0].answer.text == "Mira Sand"
    assert moved[0].base.text != "Mira Sand"
    assert moved[0].divergence > 0.1
    assert all(one.answer == one.base for one in moved[1:])
    assert [one.divergence for one in moved[1:]] == [0.0, 0.0, 0.0]
    method.close()


def test_known_answers_of_the_untouched_model_are_not_asked_for(method: Method):
    known = {prompt: scorer.Answer("known", (1,), False, " known") for prompt in PROMPTS[:2]}
    moved = scorer.moved(method, PROMPTS, kl_divergence, budget=4, known=known, batch=2)
    assert [one.base.text == "known" for one in moved] == [True, True, False, False]
    assert all(one.answer == one.base for one in moved[2:])


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_end_leave_the_batch_and_change_nothing(family: str):
    method = open_method("none", tiny_model(family), tiny_tokenizer())
    rows = method.rows(PROMPTS)
    alone = [Reading(method, [row]).greedy(12, ())[0] for row in rows]
    assert all(len(tokens) == 12 for tokens in alone)
    ends = {alone[0][1], alone[2][4]}
    expected = [tokens[: next((i for i, t in enumerate(tokens) if t in ends), 12)] for tokens in alone]
    assert len({len(tokens) for tokens in expected}) > 1
    assert Reading(method, rows).greedy(12, ends) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reading_may_be_continued_and_then_answered(family: str):
    method = open_method("none", tiny_model(family), tiny_tokenizer())
    rows = method.rows(PROMPTS)
    targets = [(5, 6, 7), (8,), (9, 10), (11, 12, 13, 14)]
    reading = Reading(method, rows)
    for row, target, log_p in zip(rows, targets, reading.continued(targets), strict=True):
        with torch.no_grad():
            whole = method.model(input_ids=torch.tensor([[*row, *target]])).logits[0].log_softmax(-1)
        torch.testing.assert_close(log_p, whole[len(row) - 1 : -1], atol=1e-4, rtol=1e-4)
    assert reading.greedy(5, ()) == Reading(method, rows).greedy(5, ())


def test_context_in_place_of_an_edit_is_seen_too():
    def encoder(texts: list[str]) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([PROMPTS.index(t) for t in texts]), len(PROMPTS)).float()

    method = open_method("retrieval", taught_model(), tiny_tokenizer(), encoder=encoder)
    method.edit([Edit(PROMPTS[0], "Mira Sand")])
    moved = [one.divergence for one in scorer.moved(method, PROMPTS, kl_divergence, budget=2)]
    assert moved[0] > 1e-3
    # The context makes the batch wider, which some processors' products round otherwise; without it nothing moves.
    assert moved[1:] == pytest.approx([0.0, 0.0, 0.0], abs=1e-8)
    assert [one.divergence for one in scorer.moved(method, PROMPTS[1:], kl_divergence, budget=2)] == [0.0, 0.0, 0.0]
