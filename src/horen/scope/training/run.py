"""From templates to a scope that can be used: both networks, the words, the joined score, and what came of it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from horen.config import HorenConfig
from horen.data import load_bank
from horen.editfiles.atomic import write_whole
from horen.errors import ConfigError, StoreError
from horen.scope.judging import Judge
from horen.scope.networks import Heads, PairCheck
from horen.scope.reader import DOCUMENT, Scope
from horen.scope.training.corpus import CERTIFY, CHOOSE, FIT, Corpus, bank_corpus, packaged, public
from horen.scope.training.joining import Rates, join, rates, trial, unjoined
from horen.scope.training.optimise import Settings, train_heads, train_pair_check
from horen.scope.wording import Words

Progress = Callable[[str, int, int], None]

# Prompts of the bank that have nothing to do with any fact, of which the joined score learns what is far.
_FAR = 150


@dataclass(frozen=True)
class Plan:
    """What a scope is trained with.

    Attributes:
        head_steps: steps of the two heads, 0.9 s each on one core.
        check_steps: steps of the pair check, 0.8 s each.
        seed: of every draw.
        extra: a folder with public files to learn from beside the package's own, or None.
    """

    head_steps: int = 1500
    check_steps: int = 5000
    seed: int = 0
    extra: Path | None = None


def train_scope(open_base: Callable[[], tuple[Any, Any]], plan: Plan, out: Path, progress: Progress) -> Scope:
    """Train a scope into a folder; an interrupted training of the same plan goes on.

    Args:
        open_base: gives a tokenizer and a fresh encoder, as fetched, whenever it is called.
        plan: how long and on what.
        out: the folder; what is kept meanwhile lies in its folder "training".
        progress: told (phase, done, total).

    Raises:
        ConfigError: when the folder holds an unfinished training of another plan.
        StoreError: when it cannot be written.
    """
    corpus = packaged(FIT) + bank_corpus()
    if plan.extra is not None:
        corpus += public(plan.extra)
    marks = out / "training"
    _claim(marks, plan, corpus)
    tokenizer, encoder = open_base()
    # What is new starts alike everywhere, and nothing global is seeded for good.
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        heads = Heads(encoder)
        check = PairCheck(open_base()[1])
    for name, network, train, settings in (
        ("heads", heads, train_heads, Settings(plan.head_steps, 4, seed=plan.seed)),
        ("check", check, train_pair_check, Settings(plan.check_steps, 64, seed=plan.seed)),
    ):
        done = marks / f"{name}.safetensors"
        if done.exists():
            network.load_state_dict(load(done.read_bytes()))
            continue
        phase = f"Training the {'two heads' if name == 'heads' else 'pair check'}"
        train(
            network,  # type: ignore[arg-type]
            tokenizer,
            corpus,
            settings,
            marks / f"{name}-mark.safetensors",
            lambda step, steps, _loss, phase=phase: progress(phase, step, steps),  # type: ignore[misc]
        )
        write_whole(done, save({key: value.contiguous() for key, value in network.state_dict().items()}))
    progress("Joining the evidence", 0, 0)
    scope = Scope(tokenizer, heads, check, words_of(corpus), unjoined())
    base = open_base()[1]
    # Joined is what will be read back, weights of four bits; a scope without a judge is nothing to leave in the folder.
    scope.save(marks, base, {})
    made = Scope.load(marks, tokenizer, open_base()[1])
    scope.judge = made.judge = joined(made)
    progress("Certifying", 0, 0)
    scope.save(out, base, _report(plan, corpus, certified(made)))
    shutil.rmtree(marks, ignore_errors=True)
    return made


def _claim(marks: Path, plan: Plan, corpus: Corpus) -> None:
    """Note what a training is of; refuse to go on with one of something else."""
    told = {name: value for name, value in _report(plan, corpus, None).items() if name != "rates"}
    place = marks / "plan.json"
    try:
        marks.mkdir(parents=True, exist_ok=True)
        if place.exists() and json.loads(place.read_text(encoding="utf-8")) != told:
            raise ConfigError(
                f"{marks.parent} holds an unfinished training with other steps, seed or files: give those again, "
                f"choose another folder, or delete {marks}."
            )
        write_whole(place, json.dumps(told).encode())
    except (OSError, ValueError) as error:
        raise StoreError(f"{marks} cannot be used ({error}): choose another folder.") from error


def words_of(corpus: Corpus) -> Words:
    """Return how much each word says, counted in templates and plain prompts."""
    texts = [text for relation in corpus.relations for text in (*relation.ask, *relation.traps)]
    return Words.of([*(text.replace("{x}", " ").replace("{q}", " ") for text in texts), *load_bank().plain])


def joined(scope: Scope) -> Judge:
    """Return the judge of relations that the networks were not trained on."""
    chance = random.Random(0)  # noqa: S311 - the same trial each time
    stored, probes = trial(packaged(CHOOSE), load_bank().plain[:_FAR], chance)
    return join(scope, stored, probes)


def certified(scope: Scope) -> Rates:
    """Return what fires at the preset's threshold among relations that nothing was fitted or chosen on."""
    stored, probes = trial(packaged(CERTIFY), load_bank().plain[_FAR:], random.Random(0))  # noqa: S311
    return rates(scope, stored, probes, HorenConfig().threshold)


def _report(plan: Plan, corpus: Corpus, seen: Rates | None) -> dict[str, Any]:
    return {
        "relations": len(corpus.relations),
        "subjects_of_running_text": len(corpus.subjects),
        "head_steps": plan.head_steps,
        "check_steps": plan.check_steps,
        "seed": plan.seed,
        "files": sorted(FIT),
        "joined_on": sorted(CHOOSE),
        "certified_on": sorted(CERTIFY),
        "rates": None if seen is None else asdict(seen),
    }


def report_of(folder: Path) -> dict[str, Any]:
    """Return how the scope of a folder was made, and what came of it."""
    found: dict[str, Any] = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))["report"]
    return found
