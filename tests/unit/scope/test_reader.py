from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from horen import ModelError
from horen.model.zoo.encoder import load_scope
from horen.scope.judging import Logistic
from horen.scope.reader import DOCUMENT, TENSORS, Scope
from support.scopes import save_scope

TEXTS = ["The capital of France is", "boats", "Paris is the capital of France", "the " * 300, "Who wrote Hamlet?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scope(tmp_path_factory.mktemp("scope"))


def test_a_key_has_two_halves_of_one_length(folder: Path):
    keys = load_scope(str(folder))(TEXTS)
    assert keys.shape == (len(TEXTS), 384)
    for half in keys.tensor_split(2, dim=-1):
        torch.testing.assert_close(half.norm(dim=-1), torch.full((len(TEXTS),), 0.5**0.5))


def test_texts_read_together_have_the_keys_that_they_have_alone(folder: Path):
    encoder = load_scope(str(folder))
    many = TEXTS * 10
    found = encoder(many)
    for i in (0, 3, 17, 49):
        torch.testing.assert_close(found[i], encoder([many[i]])[0], atol=1e-5, rtol=1e-5)
    assert encoder([]).shape == (0, 384)


def test_pairs_are_judged_alike_alone_and_together(folder: Path):
    scope = load_scope(str(folder)).scope
    halves = torch.full((len(TEXTS), 2), 0.4)
    together = scope.judged(TEXTS, TEXTS[::-1], halves)
    for i, judged in enumerate(together):
        (alone,) = scope.judged([TEXTS[i]], [TEXTS[-1 - i]], halves[:1])
        assert judged.score == pytest.approx(alone.score, abs=1e-5)
    assert scope.judged([], [], halves[:0]) == []


def test_of_the_candidates_of_a_prompt_the_three_likeliest_are_checked(folder: Path, monkeypatch: pytest.MonkeyPatch):
    scope = load_scope(str(folder)).scope
    scope.judge = replace(scope.judge, first=scope.judge.first, unlikely=0.0)
    checked, pairs = scope.checked, []

    def count(stored: Sequence[str], asked: Sequence[str]) -> torch.Tensor:
        pairs.extend(zip(stored, asked, strict=True))
        return checked(stored, asked)

    monkeypatch.setattr(scope, "checked", count)
    stored = ["Seven boats", "Who wrote it?", "Who wrote Hamlet then?", "Who ever wrote Hamlet?", "boats"]
    halves = torch.zeros(10, 2)
    together = scope.judged(stored * 2, ["Who wrote Hamlet?"] * 10, halves, of=[0] * 5 + [1] * 5)
    assert pairs == [(text, "Who wrote Hamlet?") for text in stored[1:4]] * 2
    assert together[:5] == pytest.approx(scope.judged(stored, ["Who wrote Hamlet?"] * 5, halves[:5], of=[7] * 5))
    assert together[0].score == 0
    pairs.clear()
    scope.judged(stored, ["Who wrote Hamlet?"] * 5, halves[:5])
    assert len(pairs) == 5


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_where_only_the_greatest_score_is_asked_for_it_is_the_same_with_fewer_checks(
    folder: Path, seed: int, above: float
):
    scope = trained(str(folder))
    generator = torch.Generator().manual_seed(seed)
    words = ["who", "wrote", "Hamlet", "boats", "Seven", "of", "the", "capital"]
    stored, asked = ([" ".join(words[i] for i in torch.randint(8, (4,), generator=generator)) for _ in range(24)],) * 2
    asked = asked[::-1]
    of, halves = [n // 4 for n in range(24)], torch.rand(24, 2, generator=generator) / 2
    every = scope.judged(stored, asked, halves, of=of)
    checked, counts = scope.checked, [0]

    def count(some: Sequence[str], others: Sequence[str]) -> torch.Tensor:
        counts[0] += len(some)
        return checked(some, others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scope, "checked", count)
        found = scope.judged(stored, asked, halves, of=of, above=above)
    assert counts[0] <= 18
    for group in range(0, 24, 4):
        best, own = (max(range(group, group + 4), key=lambda n: told[n].score) for told in (every, found))
        if every[best].score > above:
            assert found[own].score == pytest.approx(every[best].score, abs=1e-5)
            assert stored[own] == stored[best] or every[own].score == pytest.approx(every[best].score, abs=1e-5)
        else:
            assert found[own].score <= above + 1e-5


def test_a_sure_candidate_leaves_the_others_unchecked(folder: Path, monkeypatch: pytest.MonkeyPatch):
    scope = trained(str(folder))
    pairs: list[str] = []
    checked = scope.checked
    monkeypatch.setattr(scope, "checked", lambda some, others: pairs.extend(some) or checked(some, others))
    stored, halves = ["near", "far", "further"], torch.tensor([[0.5, 0.5], [0.2, 0.2], [0.2, 0.2]])
    scope.judged(stored, ["asked"] * 3, halves, of=[0] * 3, above=0.5)
    assert pairs == ["near"]
    pairs.clear()
    scope.judged(stored, ["asked"] * 3, halves / 2, of=[0] * 3, above=0.99)
    assert pairs == []


def trained(folder: str) -> Scope:
    """A scope whose judge weighs as a trained one does, and checks nearly all."""
    scope = load_scope(folder).scope
    first = Logistic((9.0, 9.5, -0.04, -0.25, -0.4, -0.2, 0.0), -17.0)
    whole = Logistic((5.0, 7.5, -0.08, -0.3, -0.4, -0.1, 0.1, 1.7, 3.0), -14.8)
    scope.judge = replace(scope.judge, first=first, whole=whole, unlikely=0.0)
    return scope


def test_a_text_asks_what_it_asks(folder: Path):
    scope = load_scope(str(folder)).scope
    same, other = scope.judged(["Who wrote Hamlet?"] * 2, ["who wrote hamlet", "Seven boats"], torch.zeros(2, 2))
    assert same.score > 0.9
    assert other.score <= scope.judge.unlikely


@pytest.mark.parametrize("asked", ["Who wrote Hamlet?", "who wrote hamlet", "  WHO WROTE\nHAMLET ?! "])
def test_the_very_words_ask_the_same_whatever_the_networks_say(folder: Path, asked: str):
    scope = load_scope(str(folder)).scope
    scope.judge = replace(scope.judge, first=Logistic(scope.judge.first.weights, -99.0))
    (judged,) = scope.judged(["Who wrote Hamlet?"], [asked], torch.zeros(1, 2))
    assert (judged.score, judged.subject) == (1.0, 1.0)


def test_a_saved_scope_is_read_again(folder: Path, tmp_path: Path):
    one, two = load_scope(str(folder)), load_scope(str(save_scope(tmp_path / "again")))
    assert torch.equal(one(TEXTS), two(TEXTS))
    assert one.scope.judge == two.scope.judge
    assert torch.equal(one.scope.checked(TEXTS, TEXTS), two.scope.checked(TEXTS, TEXTS))


def test_the_two_networks_share_their_embeddings(folder: Path):
    scope = load_scope(str(folder)).scope
    assert scope.heads.encoder.embeddings is scope.check.encoder.embeddings
    assert scope.heads.encoder.encoder is not scope.check.encoder.encoder


@pytest.mark.parametrize("name", [DOCUMENT, TENSORS])
def test_a_folder_that_lacks_a_file(name: str, tmp_path: Path):
    folder = save_scope(tmp_path / "scope")
    (folder / name).unlink()
    with pytest.raises(ModelError, match="holds no usable scope"):
        load_scope(str(folder))


def test_altered_tensors(tmp_path: Path):
    folder = save_scope(tmp_path / "scope")
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)
    with pytest.raises(ModelError, match="truncated or was altered"):
        load_scope(str(folder))


def test_a_scope_of_another_format(tmp_path: Path):
    folder = save_scope(tmp_path / "scope")
    document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    (folder / DOCUMENT).write_text(json.dumps(document | {"format": 99}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"^[^(]*holds a scope of format 99, this version reads 2: train it again"):
        load_scope(str(folder))


def test_what_the_check_says_is_a_pair_of_chances(folder: Path):
    found = load_scope(str(folder)).scope.checked(TEXTS, TEXTS[::-1])
    assert found.shape == (len(TEXTS), 2)
    assert bool(((found >= 0) & (found <= 1)).all())
