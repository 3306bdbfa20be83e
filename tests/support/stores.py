"""Stores without a model: random keys and values, and drafts that are trained by writing random rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import select
from torch import Tensor

from horen.database import By, Facts, Proposal, Store
from horen.database.records import Version
from horen.database.rows import Head, Layout
from horen.database.schema import codebook
from horen.database.training import Found, Job
from horen.edits import EditRecord
from horen.store.operations import now
from horen.store.state import Saved
from support.editors import quick_editor

#: Where files are that no test asks to outlive anything.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

ANN, BOB = By("ann", "because"), By("bob")


def empty_book(folder: Path, **settings: Any) -> Saved:
    """A saved codebook without edits, of a tiny model."""
    editor = quick_editor(edits=(), **settings)
    editor.prepare()
    editor.save(folder)
    editor.unwrap()
    return Saved.read(folder)


def made(address: str | Path, saved: Saved) -> Store:
    """A new store of a saved codebook."""
    return Store.create(address, saved, ANN)


@dataclass(frozen=True)
class Numbers:
    """How far the numbers of a store have come, and what its rows are."""

    base: Head
    layout: Layout

    @classmethod
    def of(cls, store: Store) -> Numbers:
        with store.database.reading() as connection:
            row = connection.execute(select(codebook)).one()
        return cls(Head(row.version, row.edits, row.entries, row.number_of_values), Layout.from_json(row.tables))


def rows_of(layout: Layout, entries: int, values: int, value: int, seed: int) -> dict[str, Tensor]:
    """Random rows of each table, as training an edit gives them."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, (dtype, shape) in layout.rows.items():
        count = entries if name in ("keys", "value_of") else values
        if name == "value_of":
            found[name] = torch.full((count,), value, dtype=dtype)
        elif dtype == torch.int8:
            found[name] = torch.randint(-127, 128, (count, *shape), generator=generator, dtype=dtype)
        else:
            found[name] = torch.randn(count, *shape, generator=generator).to(dtype)
    return found


def trained(job: Job, numbers: Numbers, *, values: int = 1, reused: int | None = None, **more: Any) -> Found:
    """What training a draft gives, with random numbers in place of what a model would have learned."""
    base, edit = numbers.base, job.edit
    entries = 1 + len(edit.rephrases)
    record = EditRecord(
        id=base.edits + 1,
        prompt=edit.prompt,
        target=edit.target,
        rephrases=tuple(edit.rephrases),
        entries=tuple(range(base.entries, base.entries + entries)),
        value=base.values if reused is None else reused,
        loss=0.0125,
        steps=7,
        converged=True,
        reused=reused is not None,
        created=now(),
        left=tuple(range(1, values)),
    )
    count = values if reused is None else 0
    return Found(record, base, rows_of(numbers.layout, entries, count, record.value, job.draft), **more)


def train(store: Store, worker: str = "trainer", **more: Any) -> list[int]:
    """Train all drafts that wait; return their ids."""
    numbers, done = Numbers.of(store), []
    for job in store.training.take(worker, limit=100):
        assert store.training.finish(job, worker, trained(job, numbers, **more))
        done.append(job.draft)
    return done


def publish(
    store: Store,
    pairs: Mapping[str, str] | Sequence[Proposal],
    by: By = ANN,
    *,
    facts: Facts | None = None,
    replaces: Iterable[int] = (),
) -> Version:
    """Propose, train and publish edits as one version."""
    gone = tuple(replaces)
    given = (
        [Proposal(prompt, target, facts=facts or Facts(), replaces=gone) for prompt, target in pairs.items()]
        if isinstance(pairs, Mapping)
        else list(pairs)
    )
    drafts = [draft.id for draft in store.drafts.propose(given, by)]
    train(store)
    return store.drafts.publish(drafts, by)


def same_tables(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    """Whether two codebooks have the same tables, bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
