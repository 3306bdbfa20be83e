from __future__ import annotations

import torch

from horen.scope.judging import Judge, Logistic, fitted


def evidence(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two numbers of which the first decides, with noise, and a third that only misleads."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator)
    chance = torch.sigmoid(3 * x[:, 0] - 2 * x[:, 1] + 0.5)
    return x, torch.rand(count, generator=generator) < chance


def test_a_fit_finds_the_weights_that_made_the_labels():
    x, y = evidence(20_000, 0)
    found = fitted(x, y, weight=0.0)
    torch.testing.assert_close(torch.tensor(found.weights), torch.tensor([3.0, -2.0, 0.0]), atol=0.15, rtol=0)
    assert abs(found.bias - 0.5) < 0.1


def test_scores_of_a_fit_are_calibrated():
    x, y = evidence(20_000, 0)
    other, labels = evidence(20_000, 1)
    scores = fitted(x, y)(other)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        within = (scores >= low) & (scores < low + 0.2)
        assert abs(float(scores[within].mean()) - float(labels[within].float().mean())) < 0.03


def test_a_weight_keeps_the_sign_that_it_may_have():
    x, y = evidence(5_000, 0)
    found = fitted(x, y, signs=[1, 1, -1])
    assert found.weights[0] > 0
    assert found.weights[1] >= 0  # it would be negative
    assert found.weights[2] <= 0


def test_the_same_evidence_gives_the_same_fit():
    assert fitted(*evidence(500, 3)) == fitted(*evidence(500, 3))


def test_verdicts():
    flat = Logistic((), 0.0)
    judge = Judge(flat, flat, flat, 0.1)
    told = [judge.verdict(*pair, 0.5) for pair in ((0.9, 0.1), (0.5, 0.9), (0.2, 0.2))]
    assert told == ["own", "about", "other"]
