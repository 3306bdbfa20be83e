"""What came of writing edits into a codebook, and how the commands tell it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import typer

from horen.cli.flow.checking import Skipped
from horen.cli.flow.receipts import Receipts
from horen.cli.terminal import counted, interrupted, listed, say, short, show
from horen.edits import Receipt

_WEAK_TOLD = 10


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        model: the model's name.
        receipts: lines that are stored or kept, with their receipts, in the order of the file.
        skipped: lines that were left out.
        remaining: lines that an interruption left undone.
        interrupted: whether there was one.
        operations: number of operations that were added to the history.
        stored: active edits in the codebook afterwards.
        seconds: time it all took.
        trained: those of the remaining lines that workers had trained and saved when they were interrupted.
    """

    model: str
    receipts: Receipts
    skipped: list[Skipped]
    remaining: int = 0
    interrupted: bool = False
    operations: int = 0
    stored: int = 0
    seconds: float = 0.0
    trained: int = 0

    def in_order(self) -> None:
        """Sort everything by line."""
        self.skipped.sort(key=lambda item: item.line)
        self.receipts.sort(lambda item: item[0].line)


def document(
    outcome: Outcome, head: Mapping[str, Any], place: Callable[[int], Mapping[str, Any]] = lambda line: {"line": line}
) -> dict[str, Any]:
    """Return an outcome for JSON.

    Args:
        outcome: what came of it.
        head: what to say before it.
        place: fields that say where the edit of a line is from.
    """
    return {
        **head,
        "model": outcome.model,
        "interrupted": outcome.interrupted,
        "counts": _counts(outcome),
        "operations": outcome.operations,
        "stored": outcome.stored,
        "seconds": round(outcome.seconds, 3),
        "receipts": [
            {**place(record.line), "prompt": record.prompt, "target": record.target, **dataclasses.asdict(receipt)}
            for record, receipt in outcome.receipts
        ],
        "skipped": [{**place(item.line), "reason": item.reason} for item in outcome.skipped],
    }


def summarise(folder: object, outcome: Outcome, skipped: str) -> None:
    """Show an outcome.

    Args:
        folder: the codebook.
        outcome: what came of it.
        skipped: what became of edits that were left out.
    """
    counts = _counts(outcome)
    words = {
        "added": "new",
        "superseded": "in the place of stored edits",
        "kept": "left out, because a stored edit answers otherwise",
        "unchanged": "stored already",
        "skipped": skipped,
    }
    for name, meaning in words.items():
        if counts[name] or name == "added":
            show(f"{counts[name]:>6}  {meaning}")
    if counts["reused"]:
        show(f"{counts['reused']:>6}  of those written share the value of an earlier edit")
    show(f"{folder} holds {counted(outcome.stored, 'edit')}; this took {outcome.seconds:.1f} s.")
    if outcome.operations > 1:
        show(f"They were written in {outcome.operations} operations; horen undo takes back one of them.")
    if weak := counts["not_converged"]:
        say(f"{weak} did not converge; ask to see if they hold:")
        told = (
            f"edit {receipt.id}: {short(record.prompt)} -> {short(record.target, 30)} (loss {receipt.loss:.2f})"
            for record, receipt in outcome.receipts
            if not receipt.converged and _is_written(receipt)
        )
        listed(list(islice(told, _WEAK_TOLD)), _WEAK_TOLD, count=weak)


def left(outcome: Outcome) -> typer.Exit:
    """Say what an interruption left; gives what is to be raised then."""
    if outcome.trained:
        return interrupted(
            f"Interrupted: {outcome.trained} of {outcome.remaining} edits are trained and saved, but not in the "
            "codebook yet. The same command again continues."
        )
    if not outcome.receipts:
        return interrupted(
            "Interrupted: no edits were done. The same command starts again; a smaller --batch saves sooner."
        )
    done = len(outcome.receipts)
    return interrupted(
        f"Interrupted: {done} of {done + outcome.remaining} edits are done and saved. The same command again continues."
    )


def _is_written(receipt: Receipt) -> bool:
    return receipt.action in {"added", "superseded"}


def _counts(outcome: Outcome) -> dict[str, int]:
    actions: Counter[str] = Counter()
    for _, receipt in outcome.receipts:
        actions[receipt.action] += 1
        if _is_written(receipt):
            actions["reused"] += receipt.reused
            actions["not_converged"] += not receipt.converged
    return {
        "added": actions["added"],
        "superseded": actions["superseded"],
        "kept": actions["kept"],
        "unchanged": actions["unchanged"],
        "reused": actions["reused"],
        "not_converged": actions["not_converged"],
        "skipped": len(outcome.skipped),
        "remaining": outcome.remaining,
        "trained": outcome.trained,
    }
