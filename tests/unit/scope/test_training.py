from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from horen.model.zoo.encoder import encoder_parts
from horen.scope.networks import Heads, PairCheck
from horen.scope.training import optimise
from horen.scope.training.corpus import Corpus, parse
from horen.scope.training.draws import Item
from horen.scope.training.optimise import Settings, contrast, train_heads, train_pair_check
from support.encoders import save_encoder
from support.tiny_models import seeded

LINES = [
    {"type": "town", "names": ["france", "paris", "boats", "the france"], "alike": [["paris", "the paris"]]},
    {
        "relation": "capital",
        "type": "town",
        "ask": ["the capital of {x} is", "{x} capital", "is {x} the capital"],
        "not": ["boats of {x}"],
    },
    {"relation": "boats", "type": "town", "ask": ["the boats of {x}", "{x} boats is", "boats {x}"], "not": ["is {x}"]},
]


@pytest.fixture
def corpus() -> Corpus:
    return parse("made", [json.dumps(line) for line in LINES])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def network(kind: Any, folder: Path) -> tuple[Any, Any]:
    tokenizer, encoder = encoder_parts(folder)
    with seeded(0):
        return tokenizer, kind(encoder)


def nothing(_step: int, _steps: int, _loss: float) -> None:
    pass


TRAININGS = [(Heads, train_heads, 2), (PairCheck, train_pair_check, 8)]


@pytest.mark.parametrize(("kind", "train", "batch"), TRAININGS)
def test_training_lowers_the_loss_and_leaves_what_is_frozen(
    kind: Any, train: Any, batch: int, corpus: Corpus, folder: Path, tmp_path: Path
):
    tokenizer, made = network(kind, folder)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    state = torch.get_rng_state()
    losses: list[float] = []
    settings = Settings(240, batch, rate=2e-3, frozen=1, rough=False)
    train(made, tokenizer, corpus, settings, tmp_path / "mark", lambda _s, _n, loss: losses.append(loss))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(losses) == settings.steps
    assert losses[-1] < 0.95 * losses[0]
    after = made.state_dict()
    assert all(
        torch.equal(before[n], after[n]) for n in before if n.startswith(("encoder.emb", "encoder.encoder.layer.0"))
    )
    assert not torch.equal(
        before["encoder.encoder.layer.1.output.dense.weight"], after["encoder.encoder.layer.1.output.dense.weight"]
    )
    assert not made.training


@pytest.mark.parametrize(("kind", "train", "batch"), TRAININGS)
def test_an_interrupted_training_ends_as_one_that_was_not(
    kind: Any, train: Any, batch: int, corpus: Corpus, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(optimise, "_MARK", 3)
    settings = Settings(8, batch, rough=False, frozen=1)
    tokenizer, whole = network(kind, folder)
    train(whole, tokenizer, corpus, settings, tmp_path / "one", nothing)

    def stop(step: int, _steps: int, _loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    _, broken = network(kind, folder)
    with pytest.raises(KeyboardInterrupt):
        train(broken, tokenizer, corpus, settings, tmp_path / "two", stop)
    _, again = network(kind, folder)
    steps: list[int] = []
    train(again, tokenizer, corpus, settings, tmp_path / "two", lambda step, _s, _l: steps.append(step))
    assert steps == [4, 5, 6, 7, 8]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_contrast_is_what_its_formula_says():
    logits = torch.tensor([[9.0, 1.0, 2.0], [1.0, 9.0, 0.5], [2.0, 0.5, 9.0]])
    like = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    everything = torch.ones(3, 3, dtype=torch.bool)
    one, two = torch.exp(torch.tensor(1.0)), torch.exp(torch.tensor([2.0, 0.5]))
    expected = -torch.log(one / (one + two)).mean()
    torch.testing.assert_close(contrast(logits, like, everything), expected)
    unknown = torch.eye(3, dtype=torch.bool)
    assert float(contrast(logits, like, unknown)) == 0  # nothing is known to be unlike
    alone = torch.eye(3, dtype=torch.bool)
    assert float(contrast(logits, alone, everything)) == 0  # nothing is like


def test_of_a_trap_only_what_it_does_not_ask_is_known():
    items = [
        Item("Who leads Ulm?", "Ulm", "mayor", "u"),
        Item("Who led Ulm?", "Ulm", "mayor#0", "u", "mayor"),
        Item("What flows past Ulm?", "Ulm", "river", "u"),
        Item("mayor of Ulm", "Ulm", "mayor", "u"),
        Item("Who led Bern?", "Bern", "mayor#0", "u", "mayor"),
        Item("Who leads Rome?", "Rome", "mayor", "v"),
    ]
    subjects, relations, known = optimise._likeness(items)
    assert subjects[0].tolist() == [True, True, True, True, False, False]
    assert relations[1].tolist() == [False, True, False, False, True, False]
    # Beside the trap: its own relation and the same trap, not the sister; of another universe nothing.
    assert known[1].tolist() == [True, True, False, True, True, False]
    assert known[2].tolist() == [True, False, True, True, False, False]
    assert bool((known == known.T).all())
