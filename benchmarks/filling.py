"""Filling a codebook with edits that were never trained, so that it is as full as a real one."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from horen.edits import EditRecord
from horen.session import Session
from horen.store.history import History

# Edits of one operation of the history.
_TOGETHER = 1_000


def fill(session: Session, edits: int) -> None:
    """Put so many edits with random unit keys and random values into an empty editor, and into its history."""
    codebook, generator = session.codebook(), torch.Generator().manual_seed(0)
    keys = normalize(torch.randn(edits, codebook.keys.shape[1], generator=generator), dim=-1)
    values = torch.randn(edits, codebook.values.shape[1], generator=generator)
    device = codebook.keys.device
    packed, stored = session.config.storage().pack(values.to(device)), session.config.of_keys().pack(keys.to(device))
    codebook.fill(stored, packed, torch.arange(edits, device=device))
    remember(session.history, edits)


def remember(history: History, edits: int) -> None:
    """Put so many edits, with one entry and one value each, into a history that has no others."""
    start = history.next_id - 1
    for first in range(start, start + edits, _TOGETHER):
        history.record("edit", [record(n) for n in range(first, min(first + _TOGETHER, start + edits))])


def record(number: int) -> EditRecord:
    """Return an edit with an entry and a value of its own."""
    return EditRecord(
        id=number + 1,
        prompt=f"Who is the head gardener of the {number}th house in Mallow Street?",
        target=f"Perpetua Oduya the {number}th",
        rephrases=(),
        entries=(number,),
        value=number,
        loss=0.0123,
        steps=12,
        converged=True,
        reused=False,
        created="2026-01-01T00:00:00.000+00:00",
    )
