"""Choosing key space and gate by a trial: one setting after another, the simpler one where nothing is gained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from horen.calibration.features import Features
from horen.calibration.material import Material, Trial
from horen.calibration.trials import Outcome, outcome
from horen.memory import KeySpace, Scoring
from horen.model.whitening import NUISANCE, SHRINKAGE

Note = Callable[[str], None]

_LEAST_GAIN = 0.003  # of the objective; less than that is chance, and the earlier and simpler setting stays
_POWERS = (1.0, 0.7, 0.5)
_DIMENSIONS = (128, 256, 512)  # fewer tell the bank apart as well, and large codebooks less
_CONTRASTS = (0.0, 0.2, 0.4, 0.6)
_NEIGHBOURS = (8, 16)
_DYNAMICS = ((0.0, 20.0, 0), (0.1, 20.0, 1), (0.3, 20.0, 1), (0.3, 50.0, 2))


@dataclass(frozen=True)
class Space:
    """What makes a key of activations, named as in :class:`horen.HorenConfig`."""

    sites: tuple[str, ...]
    weight: str = "rare"
    power: float = 0.5
    dimension: int = 256


@dataclass(frozen=True)
class Choice:
    """What was chosen, and every candidate that was compared with its objective."""

    space: Space
    gate: Scoring
    tried: tuple[dict[str, Any], ...]


class Chooser:
    """Compares candidates on a material whose texts were read.

    Args:
        material: texts.
        features: of all of them.
        rates: for each kind of negative the share that may fire where generalization is compared.
        note: told what is being compared.
    """

    def __init__(self, material: Material, features: Features, rates: Mapping[str, float], note: Note) -> None:
        self._material, self._features, self._rates, self._note = material, features, dict(rates), note
        self._tried: list[dict[str, Any]] = []
        self._known: dict[tuple[Space, Scoring], dict[str, Any]] = {}
        self._rows: tuple[Space, dict[str, Tensor]] | None = None

    def choose(self) -> Choice:
        """Return the best space and gate, found greedily: sites, weights, power, dimension, contrast, dynamics."""
        gate = Scoring(contrast=0.4, neighbours=8, alpha=0.1, beta=20.0, steps=1)
        weightings = self._features.weightings
        space, _ = self._best((Space((site,), weightings[0]), gate) for site in self._features.sites)
        pairs = [replace(space, sites=self._ordered((*space.sites, site))) for site in self._others(space)]
        space, _ = self._best((one, gate) for one in (space, *pairs))
        space, _ = self._best((replace(space, weight=weight), gate) for weight in weightings)
        space, _ = self._best((replace(space, power=power), gate) for power in _POWERS)
        space, _ = self._best((replace(space, dimension=size), gate) for size in _DIMENSIONS)
        gates = [replace(gate, contrast=0.0, neighbours=1)]
        gates += [replace(gate, contrast=c, neighbours=k) for c in _CONTRASTS[1:] for k in _NEIGHBOURS]
        _, gate = self._best((space, one) for one in gates)
        _, gate = self._best((space, replace(gate, alpha=a, beta=b, steps=t)) for a, b, t in _DYNAMICS)
        return Choice(space, gate, tuple(self._tried))

    def fitted(self, space: Space) -> KeySpace:
        """Return the key space that the material's rephrases and background give."""
        blocks = [self._features.block(site, space.weight) for site in space.sites]
        joined = torch.cat(blocks, dim=-1)
        return KeySpace.whitened(
            joined[self._features.places(self._material.background)],
            [joined[self._features.places(group)] for group in self._material.groups],
            dimension=space.dimension,
            shrinkage=SHRINKAGE,
            nuisance=NUISANCE,
            power=space.power,
            blocks=[block.shape[1] for block in blocks],
        )

    def outcome(self, space: Space, keys: KeySpace, gate: Scoring, trial: Trial) -> Outcome:
        """Return what a trial gives in a fitted space."""
        return outcome(trial, self._keys(space, keys, trial.texts()), gate)

    def _keys(self, space: Space, keys: KeySpace, texts: Sequence[str]) -> dict[str, Tensor]:
        places = self._features.places(texts)
        found = keys(torch.cat([self._features.block(site, space.weight)[places] for site in space.sites], dim=-1))
        return dict(zip(texts, found, strict=True))

    def _best(self, candidates: Iterable[tuple[Space, Scoring]]) -> tuple[Space, Scoring]:
        best, *others = candidates
        most = self._objective(*best)
        for candidate in others:
            value = self._objective(*candidate)
            if value > most + _LEAST_GAIN:
                best, most = candidate, value
        return best

    def _objective(self, space: Space, gate: Scoring) -> float:
        # What was the best so far stands among the candidates of every round.
        if (space, gate) not in self._known:
            self._known[space, gate] = self._measured(space, gate)
        self._tried.append(self._known[space, gate])
        return float(self._tried[-1]["objective"])

    def _measured(self, space: Space, gate: Scoring) -> dict[str, Any]:
        """Return the objective: the generalization averaged over the kinds of negatives, each at its rate."""
        self._note(" + ".join(space.sites))
        if self._rows is None or self._rows[0] != space:
            self._rows = space, self._keys(space, self.fitted(space), self._material.choose.texts())
        seen = outcome(self._material.choose, self._rows[1], gate)
        found = {kind: seen.at(kind, rate) for kind, rate in self._rates.items()}
        value = sum(found.values()) / len(found)
        return {**asdict(space), **asdict(gate), "top_1": seen.top_1, "found": found, "objective": value}

    def _others(self, space: Space) -> list[str]:
        return [site for site in self._features.sites if site not in space.sites]

    def _ordered(self, sites: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(sites, key=self._features.sites.index))
