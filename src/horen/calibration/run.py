"""Calibrating one model: read everything once, choose on one part, certify on another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.calibration.choice import Choice, Chooser
from horen.calibration.features import Features, Progress
from horen.calibration.guarantee import certified_threshold, negatives_needed, upper_bound
from horen.calibration.material import KINDS, NEIGHBOUR, SAME_SUBJECT, UNRELATED, Material, Trial
from horen.calibration.trials import Outcome
from horen.config import HorenConfig
from horen.errors import ConfigError
from horen.session import Session
from horen.store.calibration import SETTINGS, Calibration, Guarantee

#: Where a model is read, if nothing else is said: early layers, which tell names apart.
CANDIDATES = "layer_output@0.04+layer_output@0.1+auto@0.04+auto@0.1+auto@0.2"
# Where candidates are compared; near misses of a benchmark are usually allowed 5 %.
_COMPARED = {UNRELATED: 0.01, NEIGHBOUR: 0.05, SAME_SUBJECT: 0.05}


@dataclass(frozen=True)
class Wanted:
    """What a calibration shall hold.

    Attributes:
        rates: for kinds of negatives the share that may fire at the threshold; other kinds are only reported.
        confidence: 1 − δ of every guarantee.
        sites: candidate read sites, as the setting ``read_sites`` writes them.
        base: settings that are not calibrated.
    """

    rates: Mapping[str, float] = field(default_factory=lambda: {UNRELATED: 0.01})
    confidence: float = 0.95
    sites: str = CANDIDATES
    base: HorenConfig = field(default_factory=lambda: HorenConfig.from_preset("activations"))

    def __post_init__(self) -> None:
        if not self.rates or set(self.rates) - set(KINDS):
            raise ConfigError(f"rates={dict(self.rates)} is not valid: give a rate for one or more of {KINDS}.")
        for kind, rate in self.rates.items():
            if not 0 < rate < 1:
                raise ConfigError(
                    f"The false-fire rate {rate!r} of {kind} is not valid: expected more than 0, below 1."
                )
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence={self.confidence!r} is not valid: expected more than 0 and below 1.")


def calibrate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    material: Material,
    wanted: Wanted,
    *,
    cache: Path,
    source: str | None = None,
    progress: Progress = lambda _phase, _done, _total: None,
) -> Calibration:
    """Choose how a model is read and certify the threshold of its gate.

    Args:
        model: unwrapped; it is left as it was.
        tokenizer: the model's own, a fast one.
        material: what to learn from; its parts must be disjoint for a guarantee to mean something.
        wanted: what to hold.
        cache: folder for activations; an interrupted calibration of the same model and material goes on from there.
        source: where the model came from, for the record.
        progress: told (phase, done, total).

    Raises:
        ConfigError: when a rate cannot be certified with so few negatives, or a site does not exist in the model.
        ModelError: when the model is wrapped already.
        StoreError: when the cache cannot be written.
    """
    check_sizes(material.certify, wanted)
    began = time.monotonic()
    session = Session(model, tokenizer, wanted.base.replace(read_sites=wanted.sites))
    session.wrap()  # refuses a model that edits are on
    try:
        features = Features(session, cache)
        features.read(material.texts(), progress)
        there = {kind for kind, _ in material.choose.negatives}
        compared = {kind: rate for kind, rate in (_COMPARED | dict(wanted.rates)).items() if kind in there}
        chooser = Chooser(material, features, compared, lambda what: progress(f"comparing {what}", 0, 0))
        choice = chooser.choose()
        space = chooser.fitted(choice.space)
        progress("certifying", 0, 0)
        seen = chooser.outcome(choice.space, space, choice.gate, material.certify)
        weights = session.rare_weights if choice.space.weight == "rare" else None
    finally:
        session.unwrap()
    threshold = max(certified(kind, rate, seen, wanted) for kind, rate in wanted.rates.items())
    return Calibration(
        settings=_settings(wanted.base, choice, threshold),
        space=space,
        token_weights=weights,
        guarantees=tuple(guarantee(kind, seen, threshold, wanted) for kind in KINDS if kind in seen.negatives),
        made_for=features.made_for,
        source=source,
        report=_report(material, choice, seen, threshold, time.monotonic() - began),
    )


def check_sizes(trial: Trial, wanted: Wanted) -> None:
    """Raise ConfigError where a trial has too few negatives for a rate that shall be held."""
    counts = {kind: sum(other == kind for other, _ in trial.negatives) for kind in KINDS}
    for kind, rate in wanted.rates.items():
        needed = negatives_needed(rate, wanted.confidence)
        if counts[kind] < needed:
            raise ConfigError(
                f"{counts[kind]} {kind} prompts cannot certify a false-fire rate of {rate:g} with confidence "
                f"{wanted.confidence:g}: give pairs with at least {needed} of them, or allow more."
            )


def _settings(base: HorenConfig, choice: Choice, threshold: float) -> dict[str, Any]:
    chosen = {
        "read_sites": "+".join(choice.space.sites),
        "read_weight": choice.space.weight,
        "key_space": "whitened",
        "feature_power": choice.space.power,
        "key_dimension": choice.space.dimension,
        **asdict(choice.gate),
        "threshold": threshold,
    }
    return {name: chosen.get(name, getattr(base, name)) for name in SETTINGS}


def certified(kind: str, rate: float, seen: Outcome, wanted: Wanted) -> float:
    """Return the lowest threshold at which a kind of negatives holds its rate."""
    return certified_threshold(seen.negatives[kind].tolist(), rate=rate, confidence=wanted.confidence).threshold


def guarantee(kind: str, seen: Outcome, threshold: float, wanted: Wanted) -> Guarantee:
    """Return what is known of one kind of negatives at a threshold."""
    rate, asked = wanted.rates.get(kind, _COMPARED[kind]), len(seen.negatives[kind])
    provable = asked >= negatives_needed(rate, wanted.confidence)
    least = certified(kind, rate, seen, wanted) if provable else None
    fired = seen.fires(kind, threshold)
    return Guarantee(
        kind=kind,
        rate=rate,
        confidence=wanted.confidence,
        negatives=asked,
        certified=least,
        certified_generalization=None if least is None else seen.generalization(least),
        empirical_generalization=seen.at(kind, rate),
        fires=fired / asked,
        bound=upper_bound(fired, asked, wanted.confidence),
        held=kind in wanted.rates,
    )


def _report(material: Material, choice: Choice, seen: Outcome, threshold: float, seconds: float) -> dict[str, Any]:
    return {
        "pairs": material.pairs,
        "edits": len(material.certify.facts),
        "rephrases": material.certify.pairs,
        "top_1": seen.top_1,
        "generalization": seen.generalization(threshold),
        "seconds": round(seconds, 1),
        "tried": list(choice.tried),
    }
