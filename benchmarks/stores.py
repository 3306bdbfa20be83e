"""Stores to measure: codebooks full of edits that were never trained, and servers of their own."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from horen import Editor
from horen.database import By, Store
from horen.edits import EditRecord
from horen.store.history import History
from horen.store.state import Saved

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.postgres import Server, postgres
from support.stores import Numbers, trained

__all__ = [
    "BY",
    "KINDS",
    "Numbers",
    "Server",
    "default_book",
    "filled",
    "folder_bytes",
    "postgres",
    "prepared",
    "stored",
    "text",
    "trained",
]

BY = By("benchmark", "measured")
KINDS = ("sqlite", "postgresql")
# Edits of one version of the history.
_TOGETHER = 1000
_FIRST = ("Fennick", "Ostrava", "Mallow", "Tervuren", "Quill", "Harrow", "Lindqvist", "Pemberton", "Sorrel", "Vance")
_KINDS = ("Robotics", "Foundry", "Gardens", "Opera", "Institute", "Shipyard", "Archive", "Observatory", "Mills")
_ASKED = (
    ("Who is the head of {}?", "The head of {} is"),
    ("In which town does {} have its seat?", "{} has its seat in"),
    ("What did {} build in the year of its foundation?", "In the year of its foundation {} built"),
    ("Who wrote the first report about {}?", "The first report about {} was written by"),
)


def default_book(folder: Path) -> Saved:
    """Return the empty codebook of SmolLM2-135M-Instruct with the default settings, so that rows have their sizes."""
    editor = Editor.from_pretrained("smollm2-135m-instruct")
    editor.prepare()
    editor.save(folder)
    editor.unwrap()
    return Saved.read(folder)


def text(number: int) -> tuple[str, str, str]:
    """Return a prompt, a rephrase of it and a target; each number has others."""
    chance = random.Random(number)  # noqa: S311
    subject = f"{chance.choice(_FIRST)} {chance.choice(_KINDS)} {number}"
    prompt, rephrase = (form.format(subject) for form in chance.choice(_ASKED))
    return prompt, rephrase, f"{chance.choice(_FIRST)} the {chance.randrange(2, 99)}th"


def filled(saved: Saved, edits: int) -> Saved:
    """Return a codebook with so many edits of a prompt and a rephrase each, with random keys and values."""
    generator, tables = torch.Generator().manual_seed(0), dict(saved.folder.tensors)
    for name, count in (("keys", 2 * edits), ("values", edits)):
        table = tables[name]
        shape = (count, *table.shape[1:])
        if table.dtype == torch.int8:
            tables[name] = torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
        else:
            tables[name] = torch.empty(shape, dtype=table.dtype).normal_(generator=generator)
    tables["value_of"] = torch.arange(edits).repeat_interleave(2)
    history = History()
    for first in range(0, edits, _TOGETHER):
        history.record("edit", [_record(number) for number in range(first, min(first + _TOGETHER, edits))])
    return replace(saved, folder=replace(saved.folder, tensors=tables), history=history)


def _record(number: int) -> EditRecord:
    prompt, rephrase, target = text(number)
    return EditRecord(
        id=number + 1,
        prompt=prompt,
        target=target,
        rephrases=(rephrase,),
        entries=(2 * number, 2 * number + 1),
        value=number,
        loss=0.0123,
        steps=12,
        converged=True,
        reused=False,
        created="2026-01-01T00:00:00.000+00:00",
    )


@contextmanager
def stored(kind: str, folder: Path, saved: Saved) -> Iterator[tuple[Store, str, Server | None]]:
    """Make a store of a codebook, and give it with its address and its server, if it has one."""
    if kind == "sqlite":
        address = str(folder / "facts.db")
        with Store.create(address, saved, BY) as store:
            yield store, address, None
        return
    with postgres() as server:
        address = server.database("facts")
        with Store.create(address, saved, BY) as store:
            yield store, address, server


def folder_bytes(folder: Path) -> int:
    """Return how many bytes the files of a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prepared(store: Store, number: int) -> int:
    """Return the id of a draft that is trained and can be published."""
    from horen.database import Proposal  # noqa: PLC0415

    prompt, rephrase, target = text(10_000_000 + number)
    (draft,) = store.drafts.propose([Proposal(prompt, target, (rephrase,))], BY)
    numbers: Any = Numbers.of(store)
    for job in store.training.take("benchmark"):
        store.training.finish(job, "benchmark", trained(job, numbers))
    return draft.id
