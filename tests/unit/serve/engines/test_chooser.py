"""Choosing tokens: what temperature, top_p and a seed mean, and that other requests do not matter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.serve.engines.continuous.chooser import Draws, chosen
from horen.serve.engines.interface import Sampling

SIZE = 2000  # more than are looked at first


def logits(rows: int, *, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed)) * scale


def taken(scores: Tensor, draws: list[Draws]) -> list[int]:
    return chosen(scores.clone(), draws).argmax(-1).tolist()


def test_a_temperature_of_nothing_takes_the_likeliest():
    scores = logits(4)
    draws = [Draws(Sampling(temperature=0.0)) for _ in range(4)]
    assert taken(scores, draws) == scores.argmax(-1).tolist()
    assert torch.equal(chosen(scores.clone(), draws), scores)
    for temperature in (1e-300, 1e-6):
        assert taken(scores, [Draws(Sampling(temperature=temperature))] * 4) == scores.argmax(-1).tolist()
    assert taken(scores, [Draws(Sampling(top_p=1e-9))] * 4) == scores.argmax(-1).tolist()


@pytest.mark.parametrize("scale", [3.0, 0.1], ids=["few are likely", "all are alike"])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_tokens_are_drawn_by_their_probability(scale: float, top_p: float, temperature: float):
    """Each by its share of what top_p leaves, worked out one by one."""
    scores = logits(1, scale=scale)
    likely = (scores[0].double() / temperature).softmax(-1)
    left, total = {}, 0.0
    for token in likely.argsort(descending=True).tolist():
        left[token] = float(likely[token])
        total += left[token]
        if total >= top_p:
            break
    draws, count = Draws(Sampling(temperature=temperature, top_p=top_p, seed=0)), 4000
    found = torch.tensor([taken(scores, [draws])[0] for _ in range(count)])
    assert set(found.tolist()) <= set(left)
    for token in list(left)[:3]:
        expected = left[token] / total
        apart = abs(float((found == token).float().mean()) - expected)
        assert apart < 5 * (expected * (1 - expected) / count) ** 0.5 + 1e-3


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.2, 0.8, 1.0])), min_size=1, max_size=6))
def test_what_is_drawn_does_not_depend_on_other_requests(asked: list[tuple[float, float]]):
    scores = logits(len(asked))

    def draws(number: int) -> Draws:
        temperature, top_p = asked[number]
        return Draws(Sampling(temperature=temperature, top_p=top_p, seed=number, logprobs=number % 3 or None))

    together = taken(scores, [draws(number) for number in range(len(asked))])
    assert together == [taken(scores[number : number + 1], [draws(number)])[0] for number in range(len(asked))]


def test_answers_of_one_request_are_drawn_apart():
    scores, sampling = logits(1, scale=0.5), Sampling(seed=5)
    found = [[taken(scores, [draws])[0] for _ in range(5)] for draws in (Draws(sampling, index) for index in range(3))]
    assert len({tuple(one) for one in found}) == 3
    assert [taken(scores, [draws])[0] for draws in [Draws(sampling, 1)] * 5] == found[1]
    assert Draws(Sampling(seed=2**70)).draw() == Draws(Sampling(seed=2**70)).draw() != Draws(Sampling(seed=1)).draw()


def test_what_is_noted():
    scores = logits(3)
    draws = [Draws(Sampling(logprobs=2, seed=1)), Draws(Sampling()), Draws(Sampling(temperature=0.0, logprobs=0))]
    tokens, expected = taken(scores, draws), scores.log_softmax(-1)
    assert not draws[1].noted
    for row, count in ((0, 2), (2, 0)):
        (noted,) = draws[row].noted
        values, ids = expected[row].topk(2)
        assert noted.logprob == pytest.approx(float(expected[row, tokens[row]]))
        assert [token for token, _ in noted.likeliest] == ids.tolist()[:count]
        assert [number for _, number in noted.likeliest] == pytest.approx(values.tolist()[:count])
