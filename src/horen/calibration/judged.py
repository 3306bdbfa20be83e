"""Certifying the gate that asks who and what: nothing is chosen for a model, its threshold alone is settled."""

from __future__ import annotations

import random
import time

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.calibration.features import Progress
from horen.calibration.material import KINDS, NEIGHBOUR, SAME_SUBJECT, SEED, UNRELATED, Fact, Trial
from horen.calibration.run import Wanted, certified, check_sizes, guarantee
from horen.calibration.trials import Outcome
from horen.data import load_bank
from horen.errors import ConfigError
from horen.memory import Codebook, KeySpace, Match
from horen.model.fingerprint import fingerprint
from horen.model.scoped import ScopedGate
from horen.scope.training.corpus import CERTIFY, packaged
from horen.scope.training.joining import trial
from horen.session import Session
from horen.store.calibration import SETTINGS, Calibration

_BATCH = 32
# Plain prompts of the bank before this were used to join the score.
_JOINED = 150
_UNRELATED = 1024


def held_back() -> Trial:
    """Return the trial for whoever has no prompts: templates by other writers than those learned from.

    Questions about the subject of a stored prompt are of the kind ``same_subject``, those about another subject of its
    kind, often of a like name, ``neighbour``, and the bank's prompts ``unrelated``.
    """
    bank = load_bank()
    joined = set(bank.plain[:_JOINED])
    far = [text for text in bank.unrelated(_UNRELATED) if text not in joined]
    stored, probes = trial(packaged(CERTIFY), far, random.Random(SEED))  # noqa: S311 - the same trial each time
    asked: dict[int, list[str]] = {number: [] for number in range(len(stored))}
    negatives: dict[tuple[str, str], None] = {}
    for probe in probes[: len(probes) - len(far)]:
        if probe.own is not None:
            asked[probe.own].append(probe.text)
        else:
            negatives[SAME_SUBJECT if probe.about else NEIGHBOUR, probe.text] = None
    facts = tuple(Fact(prompt, tuple(asked[number])) for number, prompt in enumerate(stored))
    return Trial(facts, (*negatives, *((UNRELATED, text) for text in far)))


def certify(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Trial,
    wanted: Wanted,
    *,
    source: str | None = None,
    progress: Progress = lambda _phase, _done, _total: None,
) -> Calibration:
    """Settle the threshold of the gate that asks who and what, with as many edits stored as the trial has facts.

    Args:
        model: unwrapped; nothing of it is read but what tells it from other models.
        tokenizer: the model's own, a fast one.
        asked: facts and what must not wake them.
        wanted: what to hold; its settings must be those of such a gate.
        source: where the model came from, for the record.
        progress: told (phase, done, total).

    Raises:
        ConfigError: when a rate cannot be certified with so few negatives, or the settings are another gate's.
        ModelError: when the model is wrapped already, or the encoder cannot be had.
    """
    if not wanted.base.judges:
        raise ConfigError("The settings are not those of a gate that asks who and what: use calibrate().")
    check_sizes(asked, wanted)
    began = time.monotonic()
    session = Session(model, tokenizer, wanted.base)
    session.wrap()  # refuses a model that edits are on
    try:
        seen = _outcome(session, asked, progress)
        assert session.encoder is not None  # noqa: S101 - a judge reads with one
        made_for, encoder = fingerprint(model), fingerprint(session.encoder.module)
        space = KeySpace.identity(session.encoder.size)
    finally:
        session.unwrap()
    threshold = max(certified(kind, rate, seen, wanted) for kind, rate in wanted.rates.items())
    settings = {name: getattr(session.config, name) for name in SETTINGS} | {"threshold": threshold}
    return Calibration(
        settings=settings,
        space=space,
        token_weights=None,
        guarantees=tuple(guarantee(kind, seen, threshold, wanted) for kind in KINDS if kind in seen.negatives),
        made_for=made_for,
        source=source,
        report={
            "edits": len(asked.facts),
            "rephrases": asked.pairs,
            "top_1": seen.top_1,
            "generalization": seen.generalization(threshold),
            "seconds": round(time.monotonic() - began, 1),
            "tried": [],
        },
        encoder=encoder,
    )


def _outcome(session: Session, asked: Trial, progress: Progress) -> Outcome:
    """Route everything that a trial asks."""
    source, scope = session.adapter.reads.encoder, session.adapter.reads.scope
    assert source is not None and scope is not None  # noqa: PT018, S101 - a judge reads with both
    prompts = [fact.prompt for fact in asked.facts]
    codebook = Codebook(source.size, 1)
    for key in source(prompts).cpu():
        codebook.add_entries(key[None], codebook.add_value(torch.zeros(1)))
    gate = ScopedGate(scope, session.config.retrieval(), prompts.__getitem__)
    owner = [number for number, fact in enumerate(asked.facts) for _ in fact.rephrases]
    texts = [*(text for fact in asked.facts for text in fact.rephrases), *(text for _, text in asked.negatives)]
    matches: list[Match | None] = []
    for start in range(0, len(texts), _BATCH):
        progress("certifying", start, len(texts))
        batch = texts[start : start + _BATCH]
        matches += gate.matches(codebook, source(batch).cpu(), batch)
    scores = torch.tensor([0.0 if match is None else match.score for match in matches])
    own, others = matches[: len(owner)], scores[len(owner) :]
    return Outcome(
        right=torch.tensor([m is not None and m.entry == number for m, number in zip(own, owner, strict=True)]),
        scores=scores[: len(owner)],
        negatives={
            kind: others[[number for number, (other, _) in enumerate(asked.negatives) if other == kind]]
            for kind in dict.fromkeys(kind for kind, _ in asked.negatives)
        },
    )
