"""Lines of a file that look like stored edits in other words: saying so, and asking what to do."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from horen.cli.flow.checking import as_edit
from horen.cli.options import OnSimilar
from horen.cli.terminal import listed, say, short, status
from horen.editfiles.records import FileRecord, unit_of
from horen.edits import Similar

if TYPE_CHECKING:
    from horen.editor import Editor


@dataclass(frozen=True)
class Resemblance:
    """A line of a file and the stored edit that it looks like.

    Attributes:
        record: the line.
        stored: the edit.
        unit: what the numbers of the file count.
    """

    record: FileRecord
    stored: Similar
    unit: str

    def __str__(self) -> str:
        new, old = self.record, self.stored
        return (
            f"{self.unit} {new.line}: {short(new.prompt)!r} -> {short(new.target, 30)!r} looks like edit {old.id}: "
            f"{short(old.prompt)!r} -> {short(old.target, 30)!r}"
        )


def resemblances(
    file: Path, records: Sequence[FileRecord], own: Collection[int], editor: Editor
) -> dict[int, Resemblance]:
    """Return what the lines of a file look like among the edits that were stored before, by line.

    Args:
        file: of the lines.
        records: lines that are to be written.
        own: ids of stored edits that are lines of the same file, which do not count.
        editor: with what is stored.
    """
    if not editor.edit_count:
        return {}
    with status("Comparing with what is stored …"):
        found = editor.similar([as_edit(record) for record in records])
    return {
        record.line: Resemblance(record, stored, unit_of(file))
        for record, stored in zip(records, found, strict=True)
        if stored is not None and stored.id not in own
    }


def replaced_by(choice: OnSimilar, found: Mapping[int, Resemblance]) -> dict[int, int]:
    """Say what was found or ask about it, and give by line the ids of the edits that are to be replaced."""
    if not found:
        return {}
    if choice is OnSimilar.ask and _on_terminal():
        return _asked(found)
    if choice is OnSimilar.supersede:
        say("These take the place of stored edits in other words:")
        listed([str(item) for item in found.values()])
        return {line: item.stored.id for line, item in found.items()}
    say("These look like stored edits in other words, and answer otherwise:")
    listed([str(item) for item in found.values()])
    say("All stay. Drop an old one with horen remove, or replace it with --on-similar supersede (or ask) another time.")
    return {}


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _asked(found: Mapping[int, Resemblance]) -> dict[int, int]:
    chosen: dict[int, int] = {}
    answer = ""
    for line, item in found.items():
        if answer not in {"all", "none"}:
            say(str(item))
            answer = _answer(f"Replace edit {item.stored.id}? (y, n, all, none)")
        if answer in {"y", "all"}:
            chosen[line] = item.stored.id
    return chosen


def _answer(question: str) -> str:
    while True:
        try:
            given = str(typer.prompt(question, default="n", err=True)).strip().lower()
        except typer.Abort:  # Ctrl-C or the end of the input
            raise KeyboardInterrupt from None
        if given in {"y", "n", "all", "none"}:
            return given
