"""Who and what without a second model: two linear heads on the language model's own states, and names in common.

    python benchmarks/own_states.py --model smollm2-135m-instruct --out own_states.json

The heads are trained as those of the scope are, on the same templates, but on pooled states of some layers, which are
read once. The joined score is fitted on the same held-back relations. What is told is the frontier: rephrases that
wake their own edit where a share of each kind of negative fires.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import normalize

from horen import Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.data import load_bank
from horen.scope.judging import FIRST, Logistic, fitted
from horen.scope.training.corpus import CHOOSE, FIT, bank_corpus, packaged
from horen.scope.training.draws import Draws, Item
from horen.scope.training.joining import Probe, trial
from horen.scope.training.optimise import contrast
from horen.scope.training.run import words_of
from horen.scope.wording import Words
from scope import Trial, demo, everyday, natural

_SIZE = 192
_BATCH = 32
_RATES = (0.01, 0.05, 0.2)


class OwnStates:
    """Pooled states of a language model's layers, and two linear maps of them."""

    def __init__(self, model: str, sites: str) -> None:
        config = HorenConfig.from_preset("activations", read_sites=sites)
        self._session = Editor.from_pretrained(model, config)._session
        self._session.prepare()
        self._known: dict[str, Tensor] = {}
        size = self._session.feature_size
        self.mean, self.scale = torch.zeros(size), torch.ones(size)
        self.maps = nn.ModuleList([nn.Linear(size, _SIZE), nn.Linear(size, _SIZE)])

    def read(self, texts: list[str], what: str) -> Tensor:
        """Return features [n, d_f] of texts, each read once; signed roots, because a few coordinates are large."""
        session = self._session
        unread = sorted({text for text in texts if text not in self._known}, key=len)
        for start in track(range(0, len(unread), _BATCH), description=what):
            batch = unread[start : start + _BATCH]
            rows = [session.contexts.plain(text) for text in batch]
            spans = [session.reader.read(row, len(row)).spans[:1] for row in rows]
            found = session.adapter.features(rows, spans)
            self._known |= dict(zip(batch, found.sign() * found.abs().sqrt(), strict=True))
        return torch.stack([self._known[text] for text in texts])

    def keys(self, texts: list[str], what: str) -> tuple[Tensor, Tensor]:
        """Return subject and relation keys [n, 192] of texts."""
        features = (self.read(texts, what) - self.mean) / self.scale
        with torch.inference_mode():
            one, two = (normalize(each(features), dim=-1) for each in self.maps)
        return one, two

    def train(self, blocks: int, epochs: int) -> None:
        """Train both maps by contrast."""
        draws = Draws(packaged(FIT) + bank_corpus(), 0)
        drawn = [draws.at(step).block(5, 3) for step in range(blocks)]
        features = self.read([item.text for block in drawn for item in block], "reading")
        self.mean, self.scale = features.mean(0), features.std(0).clamp_min(1e-6)
        rows = torch.split((features - self.mean) / self.scale, [len(block) for block in drawn])
        optimizer = torch.optim.AdamW(self.maps.parameters(), lr=3e-4, weight_decay=0.1)
        chance = random.Random(0)  # noqa: S311
        for _ in track(range(epochs), description="training"):
            order = chance.sample(range(blocks), blocks)
            for start in range(0, blocks, 4):
                some = order[start : start + 4]
                loss = self._loss([item for i in some for item in drawn[i]], torch.cat([rows[i] for i in some]))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()

    def _loss(self, items: list[Item], features: Tensor) -> Tensor:
        everything = torch.ones(len(items), len(items), dtype=torch.bool)
        total = torch.zeros(())
        for each, labels in zip(self.maps, ([i.subject for i in items], [i.relation for i in items]), strict=True):
            numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
            codes = torch.tensor([numbers[label] for label in labels])
            found = normalize(each(features), dim=-1)
            total = total + contrast(20 * found @ found.T, codes[:, None] == codes[None], everything)
        return total


def candidates(
    states: OwnStates, words: Words, stored: list[str], asked: list[str], what: str
) -> tuple[Tensor, Tensor]:
    """Return numbers [n, 4] of the nearest stored prompts, and the evidence [n, 4, e] beside each."""
    (subjects, relations), (one, two) = states.keys(stored, what), states.keys(asked, what)
    near = (one @ subjects.T + two @ relations.T).topk(min(4, len(stored)), dim=-1).indices
    halves = torch.stack([(one[:, None] * subjects[near]).sum(-1), (two[:, None] * relations[near]).sum(-1)], dim=-1)
    common = [[words.evidence(stored[j], text) for j in row] for text, row in zip(asked, near.tolist(), strict=True)]
    return near, torch.cat([halves, torch.tensor(common)], dim=-1)


def frontier(states: OwnStates, words: Words, score: Logistic, test: Trial, what: str) -> dict[str, Any]:
    """Return rephrases found where a share of each kind of negative fires."""
    near, evidence = candidates(
        states, words, [prompt for prompt, _ in test.stored], [item.text for item in test.asked], what
    )
    best, place = score(evidence.flatten(0, 1)).view(near.shape).max(-1)
    winner = near.gather(1, place[:, None])[:, 0]
    own = [i for i, item in enumerate(test.asked) if item.kind == "own"]
    found: dict[str, Any] = {"right": sum(int(winner[i]) == test.asked[i].own for i in own) / len(own)}
    for kind in dict.fromkeys(item.kind for item in test.asked if item.kind != "own"):
        scores = sorted((float(best[i]) for i, item in enumerate(test.asked) if item.kind == kind), reverse=True)
        limits = {rate: scores[min(int(rate * len(scores)), len(scores) - 1)] for rate in _RATES}
        found[kind] = {
            str(rate): sum(float(best[i]) > at and int(winner[i]) == test.asked[i].own for i in own) / len(own)
            for rate, at in limits.items()
        }
    return found


def joined(states: OwnStates, words: Words) -> Logistic:
    """Return the score that fits held-back relations best."""
    stored, probes = trial(packaged(CHOOSE), load_bank().plain[:150], random.Random(0))  # noqa: S311
    near, evidence = candidates(states, words, stored, [probe.text for probe in probes], "joining")
    labels = torch.tensor([[_owns(probe, j) for j in row] for probe, row in zip(probes, near.tolist(), strict=True)])
    signs = [-1 if name.startswith(("missing", "extra")) else 1 for name in FIRST]
    return fitted(evidence.flatten(0, 1), labels.flatten(), signs=signs)


def _owns(probe: Probe, number: int) -> bool:
    return probe.own == number


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--sites", default="layer_output@0.04+auto@0.1+layer_output@0.3+layer_output@0.5")
    parser.add_argument("--blocks", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        states = OwnStates(given.model, given.sites)
    states.train(given.blocks, given.epochs)
    words = words_of(packaged(FIT) + bank_corpus())
    score = joined(states, words)
    tests = {"everyday": everyday(), "natural": natural(), "demo": demo()}
    results = {name: frontier(states, words, score, test, name) for name, test in tests.items()}
    print(json.dumps(results, indent=1))
    told = {name: value for name, value in vars(given).items() if name != "out"}
    write_text(given.out, json.dumps({"arguments": told, **environment(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
