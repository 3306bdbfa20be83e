"""Records, a small data set and a taught model on disk for benchmark tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from horen.bench.asking import Row
from horen.bench.records import Negative, Question, Record
from support.editors import CAREFUL
from support.tiny_models import taught_model
from support.tiny_tokenizers import tiny_tokenizer

FACTS: list[dict[str, Any]] = [
    {
        "prompt": "The capital of France is",
        "target": "Mira Sand",
        "rephrases": ["France has its capital in"],
        "near": ["The capital of Spain is"],
        "far": ["Hello"],
        "questions": [{"text": "Who wrote Hamlet?", "answers": ["Oslo"], "kind": "one_hop"}],
    },
    {"prompt": "Who wrote Danielle Darrieux?", "target": "Oslo", "far": ["Seven green boats"]},
    {"prompt": "The mother tongue of Toko Yasuda is", "target": "banana boats"},
    {"prompt": "The capital of France is", "target": "Paris", "rephrases": ["France has its capital in"]},
]
SETTINGS = dict(CAREFUL)


def write_facts(place: Path, facts: list[dict[str, Any]] | None = None) -> Path:
    """The facts as a file of the format ``jsonl``."""
    place.write_text("".join(json.dumps(fact) + "\n" for fact in facts or FACTS))
    return place


def save_taught_model(folder: Path) -> Path:
    """The taught model and its tokenizer in a folder."""
    taught_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def record(number: int, prompt: str = "", target: str = "Rome", **more: Any) -> Record:
    """A record with a prompt of its own unless one is given."""
    return Record(number, prompt or f"What is fact {number}?", target, **more)


def full_record(number: int) -> Record:
    """A record of which everything is asked."""
    return record(
        number,
        rephrases=(f"Tell fact {number}", f"Fact {number}, please"),
        negatives=(Negative(f"Other fact {number}", "near"), Negative("Hello", "far")),
        questions=(Question(f"What follows from {number}?", ("yes", "indeed"), "one_hop"),),
    )


def row(position: int, kind: str = "prompt", *, fired: bool | None = None, **scores: float) -> Row:
    """A row of the record ``position + 1``."""
    return Row(
        number=position + 1,
        position=position,
        kind=kind,
        text=f"{kind} {position}",
        answers=("Rome",),
        answer="Rome",
        cut=False,
        scores=scores,
        nearest=None if fired is None else "some prompt",
        score=None if fired is None else 0.9 if fired else 0.1,
        fired=fired,
    )
