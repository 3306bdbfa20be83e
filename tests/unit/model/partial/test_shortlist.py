"""Log-probabilities from the words that decide them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from horen.model.partial import head as heads
from horen.model.partial import shortlist
from horen.model.partial.head import Head, survey
from horen.model.partial.precision import Arithmetic
from horen.model.partial.shortlist import Shortlist
from support.tails import MIXED, tail_of, values_for
from support.tiny_models import tiny_model

SIZE, WORDS = 8, 90
REAL = torch.tensor([[True, True, False], [True, True, True]])
LABELS = torch.tensor([3, 89, 0, 3, 50])


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of four words, which a vocabulary of ninety outnumbers; its last run is no whole one."""
    monkeypatch.setattr(shortlist, "_WORDS", 4)
    monkeypatch.setattr(shortlist, "_NEXT", 20)
    monkeypatch.setattr(heads, "_RUN", 4)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head_of(seed: int = 0, *, bias: bool = False) -> Head:
    linear = nn.Linear(SIZE, WORDS, bias=bias)
    return Head(linear, numbers(WORDS, SIZE, seed=seed), numbers(WORDS, seed=seed + 1) if bias else None)


def exact(head: Head, hidden: Tensor) -> Tensor:
    return head.log_probabilities(hidden, LABELS)


@pytest.mark.parametrize("bias", [False, True])
def test_where_a_state_is_seen_first_it_is_exact(bias: bool):
    head, hidden = head_of(bias=bias), numbers(5, SIZE, seed=3).requires_grad_()
    found = Shortlist(head, 2, 3).log_probabilities(hidden, LABELS, REAL)
    torch.testing.assert_close(found, exact(head, hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_with_all_words_in_lists_its_gradient_is_too(bias: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads, "_RUN", 1)
    monkeypatch.setattr(shortlist, "_NEXT", WORDS)
    head, hidden = head_of(bias=bias), numbers(5, SIZE, seed=3).requires_grad_()
    slopes = torch.arange(1.0, 6.0)
    found, wanted = Shortlist(head, 2, 3).log_probabilities(hidden, LABELS, REAL), exact(head, hidden)
    ours, theirs = (torch.autograd.grad((x * slopes).sum(), hidden)[0] for x in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    # What is all listed but for a tangent is right to first order for a state that moves.
    near = (hidden.detach() + 1e-3 * numbers(5, SIZE, seed=4)).requires_grad_()
    known = Shortlist(head, 2, 3)
    known.log_probabilities(hidden, LABELS, REAL)
    torch.testing.assert_close(known.log_probabilities(near, LABELS, REAL), exact(head, near), atol=1e-5, rtol=1e-5)


@given(st.integers(0, 2**31), st.floats(0, 0.3))
def test_a_state_nearby_is_never_made_less_likely(seed: int, share: float):
    """The tangent of the others' sum lies below it where the tangent is that of all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "_RUN", 1)
        patch.setattr(shortlist, "_NEXT", WORDS)
        head, hidden = head_of(seed % 7), numbers(5, SIZE, seed=seed)
        known = Shortlist(head, 2, 3)
        known.log_probabilities(hidden, LABELS, REAL)
        away = numbers(5, SIZE, seed=seed + 1)
        moved = hidden + share * hidden.norm(dim=-1, keepdim=True) * away / away.norm(dim=-1, keepdim=True)
        assert bool((known.log_probabilities(moved, LABELS, REAL) >= exact(head, moved) - 1e-4).all())


def test_a_state_that_moved_away_is_seen_anew_and_others_are_not(monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(shortlist, "survey", lambda *args, **more: seen.append(len(args[1])) or survey(*args, **more))
    head, hidden = head_of(), numbers(5, SIZE, seed=3)
    known = Shortlist(head, 2, 3)
    known.log_probabilities(hidden, LABELS, REAL)
    known.log_probabilities(hidden, LABELS, REAL)
    moved = hidden.clone()
    moved[3] *= -1
    found = known.log_probabilities(moved, LABELS, REAL)
    assert seen == [5, 1]
    torch.testing.assert_close(found, exact(head, moved), atol=1e-5, rtol=1e-5)


def test_rows_that_are_kept_know_what_they_knew(monkeypatch: pytest.MonkeyPatch):
    head, hidden = head_of(), numbers(5, SIZE, seed=3)
    known = Shortlist(head, 2, 3)
    known.log_probabilities(hidden, LABELS, REAL)
    near = hidden + 0.01
    whole = known.log_probabilities(near, LABELS, REAL)
    monkeypatch.setattr(shortlist, "survey", None)  # none is made
    one = known.keep(torch.tensor([0]), 2)
    assert torch.equal(one.log_probabilities(near[:2], LABELS[:2], REAL[:1, :2]), whole[:2])


def test_tokens_do_not_depend_on_those_beside_them():
    head, hidden = head_of(), numbers(5, SIZE, seed=3)
    whole, part = Shortlist(head, 2, 3), Shortlist(head, 1, 3)
    for states in (hidden, hidden * 1.1, hidden * -1):
        found = whole.log_probabilities(states, LABELS, REAL)[2:]
        torch.testing.assert_close(part.log_probabilities(states[2:], LABELS[2:], REAL[1:]), found)


def test_a_pass_in_bytes_decides_little(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads, "_BYTES", 32)
    head, hidden = head_of(bias=True), numbers(5, SIZE, seed=3)
    coarse = head.in_bytes()
    assert len(coarse.codes) == 3
    found = Shortlist(coarse, 2, 3).log_probabilities(hidden, LABELS, REAL)
    torch.testing.assert_close(found, exact(head, hidden), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("likely", [0, 5, 1000])
def test_a_survey_names_the_likeliest_word_of_each_run(likely: int):
    head, hidden = head_of(bias=True), numbers(5, SIZE, seed=3)
    seen = survey(head, hidden, LABELS, likely=likely)
    logits = head.logits(hidden)
    runs = logits[:, : WORDS // 4 * 4].reshape(5, 4, -1).max(1).values.sort(-1, descending=True).values
    torch.testing.assert_close(seen.scores, runs[:, :likely])
    torch.testing.assert_close(logits.gather(1, seen.likely), seen.scores)
    torch.testing.assert_close(seen.total, logits.logsumexp(-1))


def test_neighbours_are_listed_beside_each_other():
    """Rivals such as the digits follow each other in a vocabulary."""
    linear = nn.Linear(1, WORDS, bias=False)
    weight = torch.full((WORDS, 1), -1.0)
    weight[40:50, 0] = torch.arange(10.0)
    head = Head(linear, weight, None)
    seen = survey(head, torch.ones(1, 1), torch.tensor([3]), likely=10)
    assert sorted(seen.likely[0].tolist()) == list(range(40, 50))


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_a_tail_steps_against_its_lists(arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shortlist, "_LEAST_VOCABULARY", 1)
    model = tiny_model().requires_grad_(False)
    tail, values = tail_of(model, MIXED), values_for(MIXED)
    rough = tail.rough(tail.fast(arithmetic))
    assert rough._short is not None
    for step in range(3):
        given_values = (values * (1 + 0.1 * step)).requires_grad_()
        found, real = rough.log_probabilities(given_values)
        wanted, _ = tail.log_probabilities(given_values)
        torch.testing.assert_close(found, wanted, atol=0.3, rtol=0.1)
        ours, theirs = (torch.autograd.grad(x.sum(), given_values)[0] for x in (found, wanted))
        assert float(torch.cosine_similarity(ours, theirs, dim=-1).min()) > 0.9
        assert torch.equal(real, tail.log_probabilities(given_values)[1])
    kept = torch.tensor([2, 1])
    torch.testing.assert_close(
        rough.keep(kept).log_probabilities(given_values[kept])[0], found[kept], atol=1e-2, rtol=1e-2
    )


def test_few_words_need_no_list():
    model = tiny_model().requires_grad_(False)
    tail = tail_of(model, MIXED)
    assert tail.rough(tail.fast(Arithmetic.MODEL))._short is None
