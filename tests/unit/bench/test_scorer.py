"""The scorer against transformers' own generate and a forward call by hand."""

from __future__ import annotations

import pytest
import torch
from bench_support import SETTINGS

from horen import Edit
from horen.baselines import open_method
from horen.bench import scorer
from horen.bench.method import Method
from horen.bench.metrics.tokens import kl_divergence
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

PROMPTS = ["The capital of France is", "Who wrote Danielle Darrieux?", "Hello", "Seven green boats went out to sea and"]


@pytest.fixture
def method() -> Method:
    return open_method("none", taught_model(), tiny_tokenizer())


def test_answers_are_those_of_generate_one_by_one(method: Method):
    found = scorer.answers(method, PROMPTS, budget=6, batch=3)
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
    found = scorer.forced(method, PROMPTS, targets)
    for prompt, target, one in zip(PROMPTS, targets, found, strict=True):
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
    before = scorer.forced(method, PROMPTS[:1], [target])[0]
    method.edit([Edit(PROMPTS[0], "Mira Sand")])
    after = scorer.forced(method, PROMPTS[:1], [target])[0]
    assert after.log_likelihood > before.log_likelihood
    assert all(after.greedy)
    assert scorer.answers(method, PROMPTS[:1], budget=8)[0].text == "Mira Sand"
    moved = scorer.divergences(method, PROMPTS, kl_divergence)
    assert moved[0] > 0.1
    assert moved[1:] == [0.0, 0.0, 0.0]
    method.close()


def test_context_in_place_of_an_edit_is_seen_too():
    def encoder(texts: list[str]) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([PROMPTS.index(t) for t in texts]), len(PROMPTS)).float()

    method = open_method("retrieval", taught_model(), tiny_tokenizer(), encoder=encoder)
    method.edit([Edit(PROMPTS[0], "Mira Sand")])
    moved = scorer.divergences(method, PROMPTS, kl_divergence)
    assert moved[0] > 0
    assert moved[1:] == [0.0, 0.0, 0.0]
